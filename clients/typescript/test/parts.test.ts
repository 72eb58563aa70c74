/** Which parts of a message are its own, its attachments, its text. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { MessagePartSchema } from "../src/gen/restante/v1/message_pb.js";
import { attachments, findPart, partsOf } from "../src/parts.js";

const tree = create(MessagePartSchema, {
  mediaType: "multipart/mixed",
  parts: [
    {
      part: [1],
      mediaType: "multipart/alternative",
      parts: [
        { part: [1, 1], mediaType: "text/plain" },
        { part: [1, 2], mediaType: "text/html" },
      ],
    },
    {
      part: [2],
      mediaType: "message/rfc822",
      attachment: true,
      parts: [{ part: [2, 1], mediaType: "text/csv", attachment: true }],
    },
    { part: [3], mediaType: "text/plain", fileName: "notes.txt", attachment: true },
  ],
});

test("parts and attachments are those of the message itself", () => {
  assert.deepEqual(
    [...partsOf(tree)].map(({ part }) => part),
    [[], [1], [1, 1], [1, 2], [2], [3]],
  );
  assert.deepEqual(
    attachments(tree).map(({ mediaType }) => mediaType),
    ["message/rfc822", "text/plain"],
  );
});

test("a part is found by its media type", () => {
  assert.deepEqual(findPart(tree, "text/plain")?.part, [1, 1]);
  assert.equal(findPart(tree, "text/csv"), undefined);
  const single = create(MessagePartSchema, { part: [1], mediaType: "text/html" });
  assert.equal(findPart(single, "text/html"), single);
});
