/** Columnar batches as one value for each message: pure. */

import { joined } from "./content.js";
import {
  MessageColumn,
  type MessagePart,
  type MessageRows,
  type StreamMessagesResponse,
} from "./gen/restante/v1/message_pb.js";
import { Flag, type MessageSummary } from "./gen/restante/v1/types_pb.js";

/** The columns that a list of messages shows. */
export const LISTING: readonly MessageColumn[] = [
  MessageColumn.FLAGS,
  MessageColumn.CHANGE_NUMBER,
  MessageColumn.RECEIVED_AT,
  MessageColumn.SIZE,
  MessageColumn.SUMMARY,
  MessageColumn.PREVIEW,
  MessageColumn.FOLDER,
];

/** Facts of one message. What was not asked for is undefined; ids and numbers are decimal text, as in the contract. */
export interface Row {
  readonly messageId: string;
  /** In its folder; "0" for a recoverable message. */
  readonly uid: string;
  readonly folderId?: string;
  /** Sum of `Flag` bits. */
  readonly flags?: number;
  readonly keywords?: readonly string[];
  readonly changeNumber?: string;
  readonly receivedAt?: Date;
  /** Zone of `receivedAt`, minutes east of UTC. */
  readonly receivedOffsetMinutes?: number;
  readonly sizeOctets?: string;
  readonly summary?: MessageSummary;
  /** The first 200 characters of text. */
  readonly preview?: string;
  readonly attachmentCount?: number;
  /** The whole message, as the root of its parts. */
  readonly parts?: MessagePart;
  /** The sections asked for, in that order; undefined where the message has no such part. */
  readonly sections: readonly (Uint8Array | undefined)[];
}

/** One value for each message of a batch, in its order. */
export function* messages(rows: MessageRows | undefined): Generator<Row, void, undefined> {
  if (rows === undefined) {
    return;
  }
  for (const [index, messageId] of rows.messageIds.entries()) {
    yield {
      messageId: String(messageId),
      uid: String(rows.uids[index] ?? 0),
      ...given("folderId", text(rows.folderIds[index])),
      ...given("flags", rows.flags[index]),
      ...given("keywords", keywords(rows, index)),
      ...given("changeNumber", text(rows.changeNumbers[index])),
      ...given("receivedAt", date(rows.receivedAtSeconds[index])),
      ...given("receivedOffsetMinutes", rows.receivedOffsetMinutes[index]),
      ...given("sizeOctets", text(rows.sizeOctets[index])),
      ...given("summary", rows.summaries[index]),
      ...given("preview", rows.previews[index]),
      ...given("attachmentCount", rows.attachmentCounts[index]),
      ...given("parts", rows.parts[index]),
      sections: rows.sections.map((cells) => (cells.totalOctets[index] === -1n ? undefined : cells.octets[index])),
    };
  }
}

/**
 * The batches of StreamMessages with their cut cells made whole: what continues the last message of a batch is put to
 * it before the batch is given out.
 */
export async function* wholeBatches(
  responses: AsyncIterable<StreamMessagesResponse>,
): AsyncGenerator<MessageRows, void, undefined> {
  let held: MessageRows | undefined;
  let cells = new Map<number, Uint8Array[]>(); // by section: pieces of the last message's cell
  const finished = (batch: MessageRows): MessageRows => {
    for (const [section, pieces] of cells) {
      batch.sections[section]?.octets.splice(-1, 1, joined(pieces));
    }
    cells = new Map();
    return batch;
  };
  for await (const { rows, rest } of responses) {
    if (rows !== undefined) {
      if (held !== undefined) {
        yield finished(held);
      }
      held = rows;
    }
    if (rest !== undefined) {
      const { sectionIndex, octets } = rest;
      const begun = cells.get(sectionIndex) ?? [held?.sections[sectionIndex]?.octets.at(-1) ?? new Uint8Array()];
      cells.set(sectionIndex, [...begun, octets]);
    }
  }
  if (held !== undefined) {
    yield finished(held);
  }
}

/** Whether a message has been read. */
export function isSeen(row: Row): boolean {
  return ((row.flags ?? 0) & Flag.SEEN) !== 0;
}

function given<K extends keyof Row>(name: K, value: Row[K] | undefined): Partial<Pick<Row, K>> {
  return value === undefined ? {} : ({ [name]: value } as Partial<Pick<Row, K>>);
}

function keywords(rows: MessageRows, index: number): readonly string[] | undefined {
  const set = rows.keywordSets[index];
  return set === undefined ? undefined : (rows.keywordTable[set]?.keywords ?? []);
}

function text(value: bigint | undefined): string | undefined {
  return value === undefined ? undefined : String(value);
}

function date(seconds: bigint | undefined): Date | undefined {
  return seconds === undefined ? undefined : new Date(Number(seconds) * 1_000);
}
