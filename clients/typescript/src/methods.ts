/** What the RPCs of the contract are to code that handles them in general. */

import type {
  DescField,
  DescMessage,
  DescMethod,
  DescMethodBiDiStreaming,
  DescMethodClientStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  DescService,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import { OperationResultSchema, OperationSchema } from "./gen/restante/v1/batch_pb.js";

/** A unary RPC, such as `FolderService.method.getFolder`. */
export type Unary<I extends DescMessage = DescMessage, O extends DescMessage = DescMessage> = DescMethodUnary<I, O>;

/** A server stream, such as `MessageService.method.streamMessages`. */
export type ServerStream<
  I extends DescMessage = DescMessage,
  O extends DescMessage = DescMessage,
> = DescMethodServerStreaming<I, O>;

/** An upload: many requests, one response. */
export type ClientStream<
  I extends DescMessage = DescMessage,
  O extends DescMessage = DescMessage,
> = DescMethodClientStreaming<I, O>;

/** Requests and responses in both directions. */
export type BiDiStream<
  I extends DescMessage = DescMessage,
  O extends DescMessage = DescMessage,
> = DescMethodBiDiStreaming<I, O>;

/** How long a call may take, and what ends it early. */
export interface CallOptions {
  /** Deadline of the whole call in milliseconds, retries included. */
  readonly timeoutMs?: number;
  /** Aborting it cancels the call, at the server too; it then throws CANCELLED, with the signal's reason as cause. */
  readonly signal?: AbortSignal | undefined;
}

/** Options of a unary call. */
export interface UnaryOptions extends CallOptions {
  /** May begin before earlier calls of the session have been answered. Otherwise they run one after the other. */
  readonly independent?: boolean | undefined;
}

/** The methods of a service as functions: unary ones give a promise, server streams an async iterable. */
export type ServiceClient<S extends DescService> = {
  [K in keyof S["method"] as S["method"][K] extends DescMethodUnary | DescMethodServerStreaming
    ? K
    : never]: S["method"][K] extends DescMethodUnary<infer I, infer O>
    ? (request: MessageInitShape<I>, options?: UnaryOptions) => Promise<MessageShape<O>>
    : S["method"][K] extends DescMethodServerStreaming<infer I, infer O>
      ? (request: MessageInitShape<I>, options?: CallOptions) => AsyncIterable<MessageShape<O>>
      : never;
};

/** Whether a method is unary. */
export function isUnary(method: DescMethod): method is Unary & DescMethod {
  return method.methodKind === "unary";
}

/** Whether a method is a server stream. */
export function isServerStream(method: DescMethod): method is ServerStream & DescMethod {
  return method.methodKind === "server_streaming";
}

/** The path of a call on the wire, such as `/restante.v1.FolderService/GetFolder`. */
export function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

/** A unary RPC's place in batches: the cases of `Operation.request` and `OperationResult.response`. */
export function operationCase(method: DescMethod): string | undefined {
  return PLACES.get(method.input.typeName);
}

const PLACES = new Map<string, string>();
for (const field of OperationSchema.fields) {
  if (field.oneof !== undefined && field.message !== undefined) {
    PLACES.set(field.message.typeName, field.localName);
  }
}

/** A field of a message by its name in TypeScript. */
export function fieldOf(message: DescMessage, name: string): DescField | undefined {
  return message.field[name];
}

/** The response that a result holds for an operation of this case; undefined when it holds another, or none. */
export function responseOf(result: MessageShape<typeof OperationResultSchema>, place: string): unknown {
  return result.response.case === place ? result.response.value : undefined;
}
