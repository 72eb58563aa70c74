/** Octets that are too many for one call: uploads and reading, both of which go on after a break. */

import { createReadStream } from "node:fs";
import type { MessageShape } from "@bufbuild/protobuf";
import { create } from "@bufbuild/protobuf";
import {
  type UploadContentRequest,
  UploadContentRequestSchema,
  type UploadKind,
} from "./gen/restante/v1/content_pb.js";

/** The most that one message of an upload holds here. */
export const CHUNK_OCTETS = 256 << 10;

/** What is uploaded: octets, or the path of a file. Either can be read again when the connection breaks. */
export type Source = Uint8Array | string;

/** The requests of an upload. `told` is called with the octets that have been handed over so far. */
export async function* pieces(
  kind: UploadKind,
  source: Source,
  told: (octets: number) => void,
): AsyncGenerator<MessageShape<typeof UploadContentRequestSchema>, void, undefined> {
  let done = 0;
  for await (const octets of chunks(source)) {
    yield first(done === 0, kind, octets);
    done += octets.length;
    told(done);
  }
  if (done === 0) {
    yield first(true, kind, new Uint8Array());
  }
}

function first(isFirst: boolean, kind: UploadKind, octets: Uint8Array): UploadContentRequest {
  return create(UploadContentRequestSchema, isFirst ? { kind, octets } : { octets });
}

async function* chunks(source: Source): AsyncGenerator<Uint8Array, void, undefined> {
  if (typeof source === "string") {
    yield* createReadStream(source, { highWaterMark: CHUNK_OCTETS }) as AsyncIterable<Uint8Array>;
    return;
  }
  for (let start = 0; start < source.length; start += CHUNK_OCTETS) {
    yield source.subarray(start, start + CHUNK_OCTETS);
  }
}

/** Octets put together. */
export function joined(octets: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(octets.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of octets) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
