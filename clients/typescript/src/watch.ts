/** One Watch stream of a session, which resumes by itself from what each subscription has seen. */

import { create } from "@bufbuild/protobuf";
import { type Channel, type Duplex, whenAborted } from "./channel.js";
import type { Connection } from "./connection.js";
import { cancelled, connectionLost, RestanteError } from "./errors.js";
import {
  SubscriptionSchema,
  SyncService,
  type WatchRequest,
  WatchRequestSchema,
  type WatchResponse,
} from "./gen/restante/v1/sync_pb.js";
import { pause, Pauses } from "./retry.js";
import type { UserSession } from "./session.js";

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 2_000;
/** Notices that the reader has not taken: beyond, it reads anew. */
export const MAX_NOTICES = 10_000;

/** Where a subscription begins, and of what. */
export interface Beginning {
  /** The mailbox; "0": the session's own. */
  readonly mailboxId: string;
  /** The folder; "0": the mailbox itself. */
  readonly folderId: string;
  /** Change number that is known. */
  readonly since: string;
  /** Epoch under which it was learned. */
  readonly epoch: string;
}

/** What a subscription tells: a notice, why it is over, or that so much was missed that all must be read anew. */
export type Told = WatchResponse | RestanteError | "behind";

/** One subscription: an ordered, bounded queue of notices. */
export class Watching {
  readonly id: string;
  readonly beginning: Beginning;
  /** What has been told so far. */
  since: bigint;
  readonly #queue: Told[] = [];
  #wake: (() => void) | undefined;

  constructor(id: string, beginning: Beginning) {
    this.id = id;
    this.beginning = beginning;
    this.since = BigInt(beginning.since);
  }

  /** Keep something for the reader. */
  put(told: Told): void {
    if (this.#queue.length < MAX_NOTICES) {
      this.#queue.push(told);
    } else if (this.#queue.at(-1) !== "behind") {
      this.#queue.splice(0, this.#queue.length, "behind"); // what waits is void, since all is read anew
    }
    this.#wake?.();
  }

  /** What comes next. Throws CANCELLED when the signal is aborted. */
  async next(signal?: AbortSignal): Promise<Told> {
    for (;;) {
      if (signal?.aborted === true) {
        throw cancelled(signal.reason);
      }
      const told = this.#queue.shift();
      if (told !== undefined) {
        return told;
      }
      let stop = (): void => undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        stop = whenAborted(signal, resolve);
      });
      stop();
    }
  }
}

/** Opens its stream with the first subscription, closes it with the last, and opens it again whenever it breaks. */
export class WatchStream {
  readonly #connection: Connection;
  readonly #session: UserSession;
  readonly #watching = new Map<string, Watching>();
  #lastId = 0;
  #call: Duplex<WatchRequest> | undefined;
  #running: AbortController | undefined;

  constructor(connection: Connection, session: UserSession) {
    this.#connection = connection;
    this.#session = session;
    session.ended.addEventListener("abort", () => this.#tellAll(session.ended.reason as RestanteError));
  }

  /** Watch a folder or a mailbox from a change number on. */
  subscribe(beginning: Beginning): Watching {
    const watching = new Watching(String(++this.#lastId), beginning);
    if (this.#session.ended.aborted) {
      watching.put(this.#session.ended.reason as RestanteError);
      return watching;
    }
    this.#watching.set(watching.id, watching);
    if (this.#running === undefined) {
      this.#running = new AbortController();
      void this.#run(this.#running.signal);
    } else {
      this.#send(this.#subscription(watching));
    }
    return watching;
  }

  /** No more notices; harmless to repeat. */
  unsubscribe(watching: Watching): void {
    const stands = this.#watching.delete(watching.id);
    if (this.#watching.size === 0) {
      this.#stop();
    } else if (stands) {
      this.#send(create(WatchRequestSchema, { action: { case: "unsubscribe", value: watching.id } }));
    }
  }

  /** End the stream; its watchers are told UNAVAILABLE. */
  close(): void {
    this.#tellAll(connectionLost("The connection was closed."));
  }

  #stop(): void {
    this.#running?.abort();
    this.#running = undefined;
  }

  #tellAll(error: RestanteError): void {
    for (const watching of this.#watching.values()) {
      watching.put(error);
    }
    this.#watching.clear();
    this.#stop();
  }

  async #run(stopped: AbortSignal): Promise<void> {
    const pauses = new Pauses(FIRST_PAUSE_MS, LONGEST_PAUSE_MS);
    let drained: Channel | undefined;
    while (!stopped.aborted) {
      if (drained !== undefined) {
        this.#connection.renew(drained);
      }
      const { token } = this.#session;
      const outcome = await this.#once(token, stopped);
      if (stopped.aborted) {
        return;
      }
      drained = outcome.drained;
      if (outcome.worked) {
        pauses.reset();
      }
      if (outcome.error?.unauthenticated === true) {
        if (!(await this.#renewed(token))) {
          return; // the session has ended, and all have been told
        }
      } else if (outcome.error?.temporary === false) {
        this.#tellAll(outcome.error);
        return;
      }
      try {
        await pause(pauses.next(outcome.error?.retrySeconds), stopped);
      } catch (error) {
        if (stopped.aborted) {
          return;
        }
        throw error;
      }
    }
  }

  /** Whether the session goes on, with another token than this one or, where the server was away, perhaps. */
  async #renewed(token: Uint8Array): Promise<boolean> {
    try {
      await this.#session.renew(token);
    } catch (error) {
      if (!(error instanceof RestanteError)) {
        throw error;
      }
    }
    return !this.#session.ended.aborted;
  }

  /** One stream from beginning to end. */
  #once(
    token: Uint8Array,
    stopped: AbortSignal,
  ): Promise<{ worked: boolean; drained: Channel | undefined; error: RestanteError | undefined }> {
    return new Promise((resolve) => {
      let worked = false;
      const finish = (error?: RestanteError, drained?: Channel): void => {
        this.#call = undefined;
        stopped.removeEventListener("abort", stop);
        resolve({ worked, drained, error });
      };
      const stop = (): void => {
        call.cancel();
        finish();
      };
      stopped.addEventListener("abort", stop, { once: true });
      const { call, on } = this.#connection.duplex(SyncService.method.watch, token, {
        message: (response) => {
          worked = true;
          if (response.notice.case === "draining") {
            call.cancel();
            finish(undefined, on);
          } else {
            this.#receive(response);
          }
        },
        ended: finish,
      });
      this.#call = call;
      for (const watching of this.#watching.values()) {
        this.#send(this.#subscription(watching));
      }
    });
  }

  #receive(response: WatchResponse): void {
    const watching = this.#watching.get(response.subscriptionId);
    if (watching === undefined) {
      return;
    }
    const { notice } = response;
    if (notice.case === "folder" || notice.case === "mailbox") {
      const number = BigInt(notice.value.changeNumber);
      watching.since = number > watching.since ? number : watching.since;
    } else if (notice.case === "resetReason" || notice.case === "rejected") {
      this.#watching.delete(watching.id); // the stream stays: its watcher is about to subscribe again
    }
    watching.put(response);
  }

  #subscription(watching: Watching): WatchRequest {
    const { mailboxId, folderId, epoch } = watching.beginning;
    const value = create(SubscriptionSchema, {
      subscriptionId: watching.id,
      sessionToken: this.#session.token,
      mailboxId,
      folderId,
      sinceChangeNumber: String(watching.since),
      epoch,
    });
    return create(WatchRequestSchema, { action: { case: "subscribe", value } });
  }

  #send(request: WatchRequest): void {
    this.#call?.write(request, () => undefined);
  }
}
