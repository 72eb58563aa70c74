/** The connection of a process to the server: one Execute stream for all its sessions, and the rest. */

import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { Channel, callMetadata, type Duplex, type DuplexListener } from "./channel.js";
import { Multiplexer, type OperationOptions } from "./execute.js";
import { BatchService } from "./gen/restante/v1/batch_pb.js";
import {
  type BiDiStream,
  type CallOptions,
  type ClientStream,
  operationCase,
  type ServerStream,
  type Unary,
} from "./methods.js";
import type { Target } from "./target.js";

/**
 * A connection that any number of clients share; there is nothing to wait for until the first call, and a server that
 * is away is found again by itself. Every method sends a request as it is, once; `Client` is what fills in request ids
 * and repeats.
 */
export class Connection {
  readonly #target: Target;
  readonly #operations: Multiplexer;
  #channel: Channel;

  /** `patienceMs`: how long an operation waits for a server that is away; default 5 seconds. */
  constructor(target: Target, options: { readonly patienceMs?: number } = {}) {
    this.#target = target;
    this.#channel = new Channel(target);
    let executedOn = this.#channel;
    this.#operations = new Multiplexer((fresh, listener) => {
      if (fresh) {
        this.renew(executedOn);
      }
      executedOn = this.#channel;
      return this.#channel.duplex(BatchService.method.execute, this.#metadata(), listener);
    }, options);
  }

  /** Where the server is: `"HOST:PORT"`. */
  get address(): string {
    return this.#target.target;
  }

  /** End all streams and calls that are shared; the process may then end by itself. */
  close(): void {
    this.#operations.close();
    this.#channel.close();
  }

  /** Run one operation on the shared Execute stream: see `Multiplexer.execute`. */
  execute<I extends DescMessage, O extends DescMessage>(
    method: Unary<I, O>,
    request: MessageShape<I>,
    options: OperationOptions = {},
  ): Promise<MessageShape<O>> {
    return this.#operations.execute(method, request, options);
  }

  /** A unary call: by the Execute stream where the method is an operation that fits, otherwise on its own. */
  run<I extends DescMessage, O extends DescMessage>(
    method: Unary<I, O>,
    request: MessageShape<I>,
    options: OperationOptions = {},
  ): Promise<MessageShape<O>> {
    const alone = () => this.unary(method, request, { ...options, timeoutMs: options.timeoutMs ?? 30_000 });
    return operationCase(method) === undefined
      ? alone()
      : this.#operations.execute(method, request, options, alone);
  }

  /** A unary call of its own. */
  unary<I extends DescMessage, O extends DescMessage>(
    method: Unary<I, O>,
    request: MessageShape<I>,
    options: CallOptions & { readonly token?: Uint8Array } = {},
  ): Promise<MessageShape<O>> {
    return this.#channel.unary(method, request, this.#metadata(options.token), options);
  }

  /** A server stream, read on only as its messages are taken. Leaving the loop early cancels it. */
  serverStream<I extends DescMessage, O extends DescMessage>(
    method: ServerStream<I, O>,
    request: MessageShape<I>,
    options: CallOptions & { readonly token?: Uint8Array } = {},
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    return this.#channel.serverStream(method, request, this.#metadata(options.token), options);
  }

  /** An upload. */
  clientStream<I extends DescMessage, O extends DescMessage>(
    method: ClientStream<I, O>,
    requests: AsyncIterable<MessageShape<I>>,
    options: CallOptions & { readonly token?: Uint8Array } = {},
  ): Promise<MessageShape<O>> {
    return this.#channel.clientStream(method, requests, this.#metadata(options.token), options);
  }

  /** A bidirectional call; the channel it is on comes with it, for `renew`. */
  duplex<I extends DescMessage, O extends DescMessage>(
    method: BiDiStream<I, O>,
    token: Uint8Array,
    listener: DuplexListener<MessageShape<O>>,
  ): { readonly call: Duplex<MessageShape<I>>; readonly on: Channel } {
    return { call: this.#channel.duplex(method, this.#metadata(token), listener), on: this.#channel };
  }

  /** Use a fresh connection from now on, unless that has happened since `drained`; it may finish what it has. */
  renew(drained: Channel): void {
    if (this.#channel === drained) {
      this.#channel = new Channel(this.#target);
      drained.close();
    }
  }

  #metadata(token?: Uint8Array): ReturnType<typeof callMetadata> {
    return callMetadata(this.#target.metadata ?? {}, token);
  }
}
