/** Columns as one value for each message. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { MessageRowsSchema, StreamMessagesResponseSchema } from "../src/gen/restante/v1/message_pb.js";
import { Flag } from "../src/gen/restante/v1/types_pb.js";
import { isSeen, messages, wholeBatches } from "../src/rows.js";

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

test("cells that were cut at the end of a batch are made whole before it is given out", async () => {
  const octets = (...values: number[]) => Uint8Array.from(values);
  const sections = [
    { octets: [octets(9), octets(1)], totalOctets: [1n, 4n] },
    { octets: [octets(8), octets()], totalOctets: [1n, 2n] },
  ];
  const responses = [
    { rows: { messageIds: [1n, 2n], sections } },
    { rest: { sectionIndex: 0, offsetOctets: "1", octets: octets(2) } },
    { rest: { sectionIndex: 0, offsetOctets: "2", octets: octets(3, 4) } },
    { rest: { sectionIndex: 1, offsetOctets: "0", octets: octets(5, 6) } },
    { rows: { messageIds: [3n], sections: [{ octets: [octets(7)], totalOctets: [1n] }] } },
  ];
  async function* stream() {
    yield* responses.map((response) => create(StreamMessagesResponseSchema, response));
  }
  const seen = [];
  for await (const batch of wholeBatches(stream())) {
    seen.push(...[...messages(batch)].map((message) => [message.messageId, message.sections]));
  }
  assert.deepEqual(seen, [
    ["1", [octets(9), octets(8)]],
    ["2", [octets(1, 2, 3, 4), octets(5, 6)]],
    ["3", [octets(7)]],
  ]);
});
