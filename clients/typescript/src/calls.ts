/** Calls of one session: request ids, deadlines, safe retries, read-your-writes, pages, streams that go on. */

import { randomBytes } from "node:crypto";
import type { DescMessage, DescService, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { create } from "@bufbuild/protobuf";
import type { Connection } from "./connection.js";
import { connectionLost, deadlineExceeded, RestanteError } from "./errors.js";
import type { CommitToken } from "./gen/restante/v1/types_pb.js";
import {
  type CallOptions,
  fieldOf,
  isServerStream,
  isUnary,
  type ServerStream,
  type ServiceClient,
  type Unary,
  type UnaryOptions,
} from "./methods.js";
import { mayRepeat, now, pause, Pauses } from "./retry.js";
import type { UserSession } from "./session.js";

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;

/** A fresh request id: made once for a logical call, and kept when it is repeated. */
export function requestId(): Uint8Array {
  return new Uint8Array(randomBytes(16));
}

/** A response that has pages after it. */
type Page = { readonly nextPageToken: string };

/** Runs the RPCs of the contract as one session. */
export class Calls {
  /** The connection, which other clients may share. */
  readonly connection: Connection;
  /** The session: its token, its renewal, its end. */
  readonly session: UserSession;
  /** Deadline of a call that is given none of its own, in milliseconds, retries included. */
  readonly timeoutMs: number;
  /** Whether the client has been closed: nothing is tried again then. */
  protected closed = false;
  readonly #commits = new Map<string, CommitToken>();

  constructor(connection: Connection, session: UserSession, timeoutMs: number) {
    this.connection = connection;
    this.session = session;
    this.timeoutMs = timeoutMs;
  }

  /**
   * The response of a unary RPC, such as `FolderService.method.getFolder`.
   *
   * A missing request_id is filled in, and `min_commit` names the latest write that this client has seen. What is only
   * temporary is tried again until the deadline, after the delay that the server asks for; an expired session is
   * renewed once. Throws the `RestanteError` of the reason.
   */
  async call<I extends DescMessage, O extends DescMessage>(
    method: Unary<I, O>,
    request: MessageInitShape<I>,
    options: UnaryOptions = {},
  ): Promise<MessageShape<O>> {
    const deadline = now() + (options.timeoutMs ?? this.timeoutMs);
    let { completed, ownCommit } = this.#completed(method.input, create(method.input, request));
    let pauses: Pauses | undefined;
    let renewed = false;
    for (;;) {
      const timeoutMs = deadline - now();
      if (timeoutMs <= 0) {
        throw deadlineExceeded();
      }
      if (this.closed) {
        throw connectionLost("The client was closed.");
      }
      const { token } = this.session;
      try {
        const { independent, signal } = options;
        const caller = { token, lane: this.session, timeoutMs, independent, signal };
        const response = await this.connection.run(method, completed, caller);
        this.#remember(response);
        return response;
      } catch (error) {
        if (!(error instanceof RestanteError)) {
          throw error;
        }
        if (error.reason === "EPOCH_CHANGED" && ownCommit) {
          this.#commits.clear(); // the store was restored: what was written before may be gone
          completed = { ...completed, minCommit: undefined };
          ownCommit = false;
        } else if (error.reason === "SESSION_EXPIRED" && !renewed) {
          renewed = true;
          await this.session.renew(token);
        } else {
          pauses ??= new Pauses(FIRST_PAUSE_MS, LONGEST_PAUSE_MS);
          const delay = pauses.next(error.retrySeconds);
          if (this.closed || !mayRepeat(method, completed, error) || now() + delay >= deadline) {
            throw error;
          }
          await pause(delay, options.signal);
        }
      }
    }
  }

  /** The methods of a service as functions, such as `client.service(FolderService).getFolder({ folderId })`. */
  service<S extends DescService>(service: S): ServiceClient<S> {
    const functions: Record<string, unknown> = {};
    for (const method of service.methods) {
      if (isUnary(method)) {
        functions[method.localName] = (request: MessageInitShape<DescMessage>, options?: UnaryOptions) =>
          this.call(method, request, options);
      } else if (isServerStream(method)) {
        functions[method.localName] = (request: MessageInitShape<DescMessage>, options?: CallOptions) =>
          this.stream(method, request, options);
      }
    }
    return functions as ServiceClient<S>;
  }

  /**
   * Every page of a list; `page_size` and `page_token` of the request begin it. The deadline is that of each page.
   */
  async *pages<I extends DescMessage, O extends DescMessage>(
    method: MessageShape<O> extends Page ? Unary<I, O> : never,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    const unary: Unary<I, O> = method;
    let wanted = create(unary.input, request) as MessageShape<I> & { pageToken: string };
    for (;;) {
      const page: MessageShape<O> = await this.call(unary, wanted as MessageInitShape<I>, options);
      yield page;
      const { nextPageToken } = page as MessageShape<O> & Page;
      if (nextPageToken === "") {
        return;
      }
      wanted = { ...wanted, pageToken: nextPageToken };
    }
  }

  /**
   * The messages of a server stream, once: it is not begun again when it breaks, since the caller knows where. They are
   * read on only as they are taken; leaving the loop early cancels it. There is no deadline unless one is given.
   */
  stream<I extends DescMessage, O extends DescMessage>(
    method: ServerStream<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    const { completed } = this.#completed(method.input, create(method.input, request));
    return this.connection.serverStream(method, completed, { ...options, token: this.session.token });
  }

  /**
   * The messages of a stream that is opened again when it breaks: `open` begins where the last one left off. Gives up
   * when attempts have failed at once for the client's `timeoutMs`.
   */
  async *resumed<T>(open: () => AsyncIterable<T>, signal?: AbortSignal): AsyncGenerator<T, void, undefined> {
    const pauses = new Pauses(FIRST_PAUSE_MS, LONGEST_PAUSE_MS);
    let failingSince: number | undefined;
    let renewed = false;
    for (;;) {
      const began = now();
      const { token } = this.session;
      try {
        for await (const message of open()) {
          failingSince = undefined;
          renewed = false;
          pauses.reset();
          yield message;
        }
        return;
      } catch (error) {
        if (!(error instanceof RestanteError)) {
          throw error;
        }
        if (error.reason === "SESSION_EXPIRED" && !renewed) {
          renewed = true;
          await this.session.renew(token);
          continue;
        }
        if (failingSince === undefined || now() - began > LONGEST_PAUSE_MS) {
          failingSince = now(); // it worked, if in silence
          pauses.reset();
        }
        const delay = pauses.next(error.retrySeconds);
        if (this.closed || !error.temporary || now() + delay >= failingSince + this.timeoutMs) {
          throw error;
        }
        await pause(delay, signal);
      }
    }
  }

  /** The latest write to a mailbox that this client has seen: what its reads ask for as `min_commit`. */
  minCommit(mailboxId = "0"): CommitToken | undefined {
    return this.#commits.get(mailboxId === "0" || mailboxId === "" ? this.session.info.mailboxId : mailboxId);
  }

  /** The request with its request_id and min_commit, in a copy where something is added. */
  #completed<I extends DescMessage>(
    schema: I,
    request: MessageShape<I>,
  ): { completed: MessageShape<I>; ownCommit: boolean } {
    const fields = request as { requestId?: Uint8Array; minCommit?: CommitToken; mailboxId?: string };
    let completed = request;
    if (fieldOf(schema, "requestId") !== undefined && fields.requestId?.length === 0) {
      completed = { ...completed, requestId: requestId() };
    }
    let ownCommit = false;
    if (fieldOf(schema, "minCommit") !== undefined && fields.minCommit === undefined) {
      const minCommit = this.minCommit(fields.mailboxId);
      if (minCommit !== undefined) {
        completed = { ...completed, minCommit };
        ownCommit = true;
      }
    }
    return { completed, ownCommit };
  }

  /** Keep the commit of a write, so that later reads see it. */
  #remember(response: object): void {
    const { commit } = response as { commit?: CommitToken };
    if (commit === undefined) {
      return;
    }
    const known = this.#commits.get(commit.mailboxId);
    if (known === undefined || isLater(commit, known)) {
      this.#commits.set(commit.mailboxId, commit);
    }
  }
}

function isLater(one: CommitToken, other: CommitToken): boolean {
  const [epoch, otherEpoch] = [BigInt(one.epoch), BigInt(other.epoch)];
  return epoch === otherEpoch ? BigInt(one.changeNumber) > BigInt(other.changeNumber) : epoch > otherEpoch;
}
