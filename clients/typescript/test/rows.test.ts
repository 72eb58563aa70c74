/** Columns as one value for each message. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { MessageRowsSchema } from "../src/gen/restante/v1/message_pb.js";
import { Flag } from "../src/gen/restante/v1/types_pb.js";
import { isSeen, messages } from "../src/rows.js";

test("each message has its own cells, and what was not asked for is not there", () => {
  const octets = Uint8Array.of(1, 2);
  const rows = create(MessageRowsSchema, {
    messageIds: [9007199254740993n, 2n],
    uids: [10n, 11n],
    flags: [Flag.SEEN | Flag.FLAGGED, 0],
    keywordSets: [1, 0],
    keywordTable: [{}, { keywords: ["work"] }],
    receivedAtSeconds: [1_700_000_000n, 0n],
    receivedOffsetMinutes: [-330, 0],
    sections: [{ octets: [octets, new Uint8Array()], totalOctets: [2n, -1n] }],
  });
  const [first, second] = [...messages(rows)];
  assert.deepEqual(first, {
    messageId: "9007199254740993",
    uid: "10",
    flags: 5,
    keywords: ["work"],
    receivedAt: new Date(1_700_000_000_000),
    receivedOffsetMinutes: -330,
    sections: [octets],
  });
  assert.ok(first !== undefined && isSeen(first));
  assert.ok(second !== undefined && !isSeen(second));
  assert.deepEqual([second.keywords, second.sections], [[], [undefined]]);
});

test("no rows are no messages", () => {
  assert.deepEqual([...messages(undefined)], []);
  assert.deepEqual([...messages(create(MessageRowsSchema))], []);
});
