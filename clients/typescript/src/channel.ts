/** Calls on one connection: messages in, messages out, every failure a `RestanteError`. */

import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import { cancelled, errorFromCall, RestanteError } from "./errors.js";
import {
  type BiDiStream,
  type CallOptions,
  type ClientStream,
  pathOf,
  type ServerStream,
  type Unary,
} from "./methods.js";
import { openChannel, type Target } from "./target.js";

/** A bidirectional call. Nothing is told after `ended`. */
export interface Duplex<I> {
  /** Send one request; `done` is called when there is room for the next. */
  write(request: I, done: () => void): void;
  /** Nothing more will be sent. */
  end(): void;
  /** End the call now, at the server too. */
  cancel(): void;
}

/** What a bidirectional call tells. */
export interface DuplexListener<O> {
  /** A response. */
  message(response: O): void;
  /** The call is over; without an error the server ended it. */
  ended(error?: RestanteError): void;
}

/** The session token as the metadata entry of a call, beside the connection's own entries. */
export function callMetadata(base: Readonly<Record<string, string>>, token?: Uint8Array): grpc.Metadata {
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(base)) {
    metadata.set(name, value);
  }
  if (token !== undefined && token.length > 0) {
    metadata.set("authorization", `Bearer ${Buffer.from(token).toString("base64url")}`);
  }
  return metadata;
}

/** One connection, opened by the first call and again when it broke. */
export class Channel {
  readonly #client: grpc.Client;

  constructor(target: Target) {
    this.#client = openChannel(target);
  }

  /** Take no new calls; those that run may finish. */
  close(): void {
    this.#client.close();
  }

  /** A unary call. */
  unary<I extends DescMessage, O extends DescMessage>(
    method: Unary<I, O>,
    request: MessageShape<I>,
    metadata: grpc.Metadata,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    return this.#answered<MessageShape<O>>(options, (done) =>
      this.#client.makeUnaryRequest(
        pathOf(method),
        writer(method.input),
        reader(method.output),
        request,
        metadata,
        limits(options),
        done,
      ),
    );
  }

  /** The messages of a server stream, read on only as they are taken. Leaving the loop early cancels the call. */
  async *serverStream<I extends DescMessage, O extends DescMessage>(
    method: ServerStream<I, O>,
    request: MessageShape<I>,
    metadata: grpc.Metadata,
    options: CallOptions = {},
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    if (isAborted(options.signal)) {
      throw cancelled(options.signal?.reason);
    }
    const call = this.#client.makeServerStreamRequest(
      pathOf(method),
      writer(method.input),
      reader(method.output),
      request,
      metadata,
      limits(options),
    );
    call.on("error", () => undefined); // one that comes after the loop was left has nobody to go to
    const stop = whenAborted(options.signal, () => call.cancel());
    try {
      for await (const message of call) {
        yield message as MessageShape<O>;
        if (isAborted(options.signal)) {
          break;
        }
      }
    } catch (error) {
      throw isAborted(options.signal) ? cancelled(options.signal?.reason) : translated(error);
    } finally {
      stop();
      call.cancel();
    }
    if (isAborted(options.signal)) {
      throw cancelled(options.signal?.reason);
    }
  }

  /** The response to a stream of requests, which are taken as there is room for them. What `requests` throws comes as
   * it is. */
  async clientStream<I extends DescMessage, O extends DescMessage>(
    method: ClientStream<I, O>,
    requests: AsyncIterable<MessageShape<I>>,
    metadata: grpc.Metadata,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    let call: grpc.ClientWritableStream<MessageShape<I>> | undefined;
    const answer = this.#answered<MessageShape<O>>(options, (done) => {
      call = this.#client.makeClientStreamRequest(
        pathOf(method),
        writer(method.input),
        reader(method.output),
        metadata,
        limits(options),
        done,
      );
      call.on("error", () => undefined); // a write that meets the end of the call: the answer says why
      return call;
    });
    let answered = false;
    const settled = answer.then(
      () => {
        answered = true;
      },
      () => {
        answered = true;
      },
    );
    try {
      for await (const request of requests) {
        await Promise.race([written(call, request), settled]);
        if (answered) {
          break; // a refusal need not wait for the rest
        }
      }
    } catch (error) {
      call?.cancel();
      await settled;
      throw error;
    }
    call?.end();
    return answer;
  }

  /** A bidirectional call. */
  duplex<I extends DescMessage, O extends DescMessage>(
    method: BiDiStream<I, O>,
    metadata: grpc.Metadata,
    listener: DuplexListener<MessageShape<O>>,
  ): Duplex<MessageShape<I>> {
    const call = this.#client.makeBidiStreamRequest(
      pathOf(method),
      writer(method.input),
      reader(method.output),
      metadata,
    );
    let over = false;
    const end = (error?: RestanteError): void => {
      if (!over) {
        over = true;
        listener.ended(error);
      }
    };
    call.on("data", (message: MessageShape<O>) => {
      if (!over) {
        listener.message(message);
      }
    });
    call.on("error", (error) => end(translated(error)));
    call.on("end", () => setImmediate(end)); // an error of the same moment comes first
    return {
      write: (request, done) => {
        call.write(request, () => done());
      },
      end: () => {
        call.end();
      },
      cancel: () => {
        over = true;
        call.cancel();
      },
    };
  }

  /** The one answer of a call, which `begin` makes. */
  #answered<O>(
    options: CallOptions,
    begin: (done: (error: grpc.ServiceError | null, response?: O) => void) => { cancel(): void },
  ): Promise<O> {
    const { signal } = options;
    return new Promise((resolve, reject) => {
      if (isAborted(signal)) {
        reject(cancelled(signal?.reason));
        return;
      }
      let stop = (): void => undefined;
      const call = begin((error, response) => {
        stop();
        if (error === null) {
          resolve(response as O);
        } else {
          reject(isAborted(signal) ? cancelled(signal?.reason) : errorFromCall(error));
        }
      });
      stop = whenAborted(signal, () => call.cancel());
    });
  }
}

function limits(options: CallOptions): grpc.CallOptions {
  return options.timeoutMs === undefined ? {} : { deadline: Date.now() + options.timeoutMs };
}

function translated(error: unknown): RestanteError {
  return error instanceof RestanteError ? error : errorFromCall(error as grpc.ServiceError);
}

function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true;
}

/** Do something once when a signal is aborted; the result undoes it. */
export function whenAborted(signal: AbortSignal | undefined, then: () => void): () => void {
  if (signal === undefined) {
    return () => undefined;
  }
  if (signal.aborted) {
    then();
    return () => undefined;
  }
  signal.addEventListener("abort", then, { once: true });
  return () => signal.removeEventListener("abort", then);
}

function written<T>(call: grpc.ClientWritableStream<T> | undefined, request: T): Promise<void> {
  return new Promise((resolve) => {
    call?.write(request, () => resolve());
  });
}

type Writer = (message: MessageShape<DescMessage>) => Buffer;

const writers = new WeakMap<DescMessage, Writer>();
const readers = new WeakMap<DescMessage, (octets: Buffer) => unknown>();

function writer<D extends DescMessage>(schema: D): (message: MessageShape<D>) => Buffer {
  let found = writers.get(schema);
  if (found === undefined) {
    found = (message) => {
      const octets = toBinary<DescMessage>(schema, message);
      return Buffer.from(octets.buffer, octets.byteOffset, octets.byteLength);
    };
    writers.set(schema, found);
  }
  return found;
}

function reader<D extends DescMessage>(schema: D): (octets: Buffer) => MessageShape<D> {
  let found = readers.get(schema);
  if (found === undefined) {
    // Plain octets, so that `bytes` fields are no Buffers, whose `slice` is another one.
    found = (octets) => fromBinary(schema, new Uint8Array(octets.buffer, octets.byteOffset, octets.byteLength));
    readers.set(schema, found);
  }
  return found as (octets: Buffer) => MessageShape<D>;
}
