/** The parts of a message: pure. */

import { create } from "@bufbuild/protobuf";
import {
  type MessagePart,
  type Section,
  type SectionDecoding,
  SectionKind,
  SectionSchema,
} from "./gen/restante/v1/message_pb.js";

/** A part and the parts below it, in order, without those of embedded messages. */
export function* partsOf(root: MessagePart): Generator<MessagePart, void, undefined> {
  yield root;
  if (root.mediaType.startsWith("multipart/")) {
    for (const part of root.parts) {
      yield* partsOf(part);
    }
  }
}

/** The attachments of a message, in order; an embedded message counts as one. */
export function attachments(root: MessagePart): MessagePart[] {
  return [...partsOf(root)].filter((part) => part.attachment);
}

/** The first part of a media type, such as `"text/plain"`, that is no attachment. */
export function findPart(root: MessagePart, mediaType: string): MessagePart | undefined {
  for (const part of partsOf(root)) {
    if (part.mediaType === mediaType && !part.attachment) {
      return part;
    }
  }
  return undefined;
}

/** The section with a part's octets in this form. */
export function sectionOf({ part }: MessagePart, decoding: SectionDecoding): Section {
  return create(SectionSchema, { part, kind: SectionKind.WHOLE, decoding });
}
