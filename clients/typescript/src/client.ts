/** The client: one user's mail. */

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Calls } from "./calls.js";
import { Connection } from "./connection.js";
import { joined, pieces, type Source } from "./content.js";
import { errorFromStatus, RestanteError } from "./errors.js";
import { ContentService, type UploadContentResponse, type UploadKind } from "./gen/restante/v1/content_pb.js";
import { FolderService, type OpenFolderResponse } from "./gen/restante/v1/folder_pb.js";
import { JobService, type WatchJobResponse } from "./gen/restante/v1/job_pb.js";
import { MailboxService } from "./gen/restante/v1/mailbox_pb.js";
import {
  MessageColumn,
  type MessagePart,
  type MessageRows,
  MessageService,
  type Section,
  SectionDecoding,
  SectionKind,
  SectionSchema,
  type StreamMessagesRequestSchema,
} from "./gen/restante/v1/message_pb.js";
import { SyncService, type SyncMailboxResponse, type WatchResponse } from "./gen/restante/v1/sync_pb.js";
import { type FolderChanges, FolderChangesSchema } from "./gen/restante/v1/types_pb.js";
import type { CallOptions } from "./methods.js";
import { sectionOf } from "./parts.js";
import { now, pause, Pauses } from "./retry.js";
import { LISTING, wholeBatches } from "./rows.js";
import { UserSession } from "./session.js";
import type { Target } from "./target.js";
import { type Beginning, WatchStream } from "./watch.js";

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;
const SNAPSHOT_PAUSE_MS = 200;

/** How to log on: with a password, or with a session token that was kept. */
export type Credentials =
  | {
      readonly user: string;
      readonly password: string;
      /** Whether the password is kept, to log on again when the session's day is over; default true. */
      readonly keepPassword?: boolean;
    }
  | { readonly token: Uint8Array };

/** Options of a client. */
export interface ClientOptions {
  /** Deadline of a call that is given none of its own, in milliseconds, retries included; default 30 seconds. */
  readonly timeoutMs?: number;
  /** Ends the logging on. */
  readonly signal?: AbortSignal;
}

/** Options of reading a message. */
export interface ReadOptions {
  /** The mailbox; default: the user's own. */
  readonly mailboxId?: string;
  /** Ends the reading. */
  readonly signal?: AbortSignal;
}

/** What happened in a folder. With `fresh`, all that was known before is void, and `changes` begin a new copy. */
export interface FolderEvent {
  readonly fresh: boolean;
  readonly changes: FolderChanges;
}

/** A mailbox has a new change number. With `fresh`, changes may have been missed: compare everything. */
export interface MailboxEvent {
  readonly fresh: boolean;
  readonly changeNumber: string;
  /** Folders known to be touched; may be incomplete. */
  readonly folderIds: readonly string[];
}

/**
 * One user's session, and everything that can be done in it.
 *
 * `call`, `service`, `pages` and `stream` reach every RPC of the contract; what is below adds what takes more than one.
 * Every method takes an AbortSignal. Close it at the end: an open client keeps the process alive.
 */
export class Client extends Calls {
  readonly #watch: WatchStream;
  readonly #ownsConnection: boolean;

  private constructor(connection: Connection, session: UserSession, timeoutMs: number, ownsConnection: boolean) {
    super(connection, session, timeoutMs);
    this.#watch = new WatchStream(connection, session);
    this.#ownsConnection = ownsConnection;
  }

  /**
   * Log on, over a connection of its own or, given a `Connection`, over one that is shared. The session is renewed in
   * the background until the client is closed. Throws AUTHENTICATION_FAILED, TOO_MANY_ATTEMPTS, SESSION_EXPIRED,
   * SESSION_REVOKED, and UNAVAILABLE, naming the address and the cause, when the server cannot be reached within 5 seconds.
   */
  static async connect(
    target: Target | Connection,
    credentials: Credentials,
    options: ClientOptions = {},
  ): Promise<Client> {
    const timeoutMs = options.timeoutMs ?? 30_000;
    const owned = !(target instanceof Connection);
    const connection = owned ? new Connection(target, { patienceMs: Math.min(5_000, timeoutMs) }) : target;
    const limits = { ...options, timeoutMs };
    try {
      const session =
        "token" in credentials
          ? await UserSession.resume(connection, credentials.token, limits)
          : await UserSession.logOn(connection, credentials.user, credentials.password, {
              ...limits,
              keepPassword: credentials.keepPassword ?? true,
            });
      return new Client(connection, session, timeoutMs, owned);
    } catch (error) {
      if (owned) {
        connection.close();
      }
      throw unreached(connection, error);
    }
  }

  /** End all that runs, and the connection unless it is shared. The session stays good: `session.logOff` ends it. */
  close(): void {
    this.closed = true;
    this.session.close();
    this.#watch.close();
    if (this.#ownsConnection) {
      this.connection.close();
    }
  }

  /** For `using`: closes it at the end of the block. */
  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * Upload octets, or the file at a path; begun anew when the connection breaks, as long as `timeoutMs` brings it
   * further. The upload can be used for an hour. Throws MESSAGE_TOO_LARGE, INVALID_CONTENT, STORE_FULL, and what
   * reading the file throws.
   */
  async upload(kind: UploadKind, source: Source, options: CallOptions = {}): Promise<UploadContentResponse> {
    const patienceMs = options.timeoutMs ?? this.timeoutMs;
    const pauses = new Pauses(FIRST_PAUSE_MS, LONGEST_PAUSE_MS);
    const signal = options.signal === undefined ? {} : { signal: options.signal };
    let [last, furthest, renewed] = [now(), 0, false];
    const told = (octets: number): void => {
      if (octets > furthest) {
        [last, furthest] = [now(), octets];
      }
    };
    for (;;) {
      const { token } = this.session;
      try {
        const requests = pieces(kind, source, told);
        return await this.connection.clientStream(ContentService.method.uploadContent, requests, { ...signal, token });
      } catch (error) {
        if (!(error instanceof RestanteError)) {
          throw error;
        }
        if (error.reason === "SESSION_EXPIRED" && !renewed) {
          renewed = true;
          await this.session.renew(token);
          continue;
        }
        const delay = pauses.next(error.retrySeconds);
        if (this.closed || !error.temporary || now() + delay >= last + patienceMs) {
          throw error;
        }
        await pause(delay, options.signal);
      }
    }
  }

  /**
   * Octets of a message, or of a section of it; resumes when the connection breaks. Throws MESSAGE_NOT_FOUND,
   * PART_NOT_FOUND.
   */
  async *readStream(
    messageId: string,
    section?: Partial<Omit<Section, "$typeName" | "$unknown">>,
    options: ReadOptions = {},
  ): AsyncGenerator<Uint8Array, void, undefined> {
    const wanted = create(SectionSchema, { kind: SectionKind.WHOLE, ...section });
    const start = BigInt(wanted.offsetOctets ?? 0);
    const length = wanted.lengthOctets === undefined ? undefined : BigInt(wanted.lengthOctets);
    let done = 0n;
    const open = () => {
      wanted.offsetOctets = String(start + done);
      if (length !== undefined) {
        wanted.lengthOctets = String(length - done);
      }
      const request = { messageId, section: wanted, mailboxId: options.mailboxId ?? "0" };
      return this.stream(ContentService.method.readContent, request, signalOf(options));
    };
    for await (const { octets } of this.resumed(open, options.signal)) {
      done += BigInt(octets.length);
      if (octets.length > 0) {
        yield octets;
      }
    }
  }

  /** All octets of a message or of a section of it: see `readStream`. */
  async read(...what: Parameters<Client["readStream"]>): Promise<Uint8Array> {
    const octets: Uint8Array[] = [];
    for await (const piece of this.readStream(...what)) {
      octets.push(piece);
    }
    return joined(octets);
  }

  /** The part tree of a message: the whole message, as the root of its parts. Throws MESSAGE_NOT_FOUND. */
  async parts(messageId: string, options: ReadOptions = {}): Promise<MessagePart> {
    const messages = { messages: { case: "ids" as const, value: { messageIds: [BigInt(messageId)] } } };
    const request = { messages, columns: [MessageColumn.PARTS], mailboxId: options.mailboxId ?? "0" };
    const { rows } = await this.call(MessageService.method.batchGetMessages, request, signalOf(options));
    const [root] = rows?.parts ?? [];
    if (root === undefined) {
      throw new RestanteError(`The message does not exist (message_id ${messageId}).`, {
        code: "NOT_FOUND",
        reason: "MESSAGE_NOT_FOUND",
        metadata: { message_id: messageId },
      });
    }
    return root;
  }

  /**
   * Octets of a part without its transfer encoding: see `readStream`. The multipart of a whole message has no octets of
   * its own.
   */
  readPartStream(
    messageId: string,
    part: MessagePart,
    options: ReadOptions = {},
  ): AsyncGenerator<Uint8Array, void, undefined> {
    return this.readStream(messageId, sectionOf(part, SectionDecoding.TRANSFER), options);
  }

  /** All octets of a part without its transfer encoding: see `readPartStream`. */
  readPart(messageId: string, part: MessagePart, options: ReadOptions = {}): Promise<Uint8Array> {
    return this.read(messageId, sectionOf(part, SectionDecoding.TRANSFER), options);
  }

  /** The text of a text part. The server decodes its charset; line ends are LF. Throws as `readStream`. */
  async readText(messageId: string, part: MessagePart, options: ReadOptions = {}): Promise<string> {
    const octets = await this.read(messageId, sectionOf(part, SectionDecoding.TEXT), options);
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(octets).replaceAll("\r\n", "\n");
  }

  /**
   * Columns and sections of any number of messages, in batches, each message whole; read on only as they are taken.
   * `messages` turns a batch into one object for each. Throws FOLDER_NOT_FOUND, and UNAVAILABLE when the connection
   * breaks: ask again for those that have not come.
   */
  streamMessages(
    request: MessageInitShape<typeof StreamMessagesRequestSchema>,
    options: CallOptions = {},
  ): AsyncGenerator<MessageRows, void, undefined> {
    return wholeBatches(this.stream(MessageService.method.streamMessages, request, options));
  }

  /**
   * Changes of a folder: those above the change number `since`; without it from now on, which is when the first is
   * asked for; with `snapshot`, after what it holds.
   *
   * A broken stream is opened again from the last change that was told. After a reset the folder is read anew, and the
   * first event of that is `fresh`. Leave the loop to end it. Throws FOLDER_NOT_FOUND when the folder is gone, and
   * SESSION_EXPIRED or SESSION_REVOKED when the session is over.
   */
  async *watch(
    folderId: string,
    options: {
      readonly since?: string;
      readonly snapshot?: boolean;
      readonly mailboxId?: string;
      readonly signal?: AbortSignal;
    } = {},
  ): AsyncGenerator<FolderEvent, void, undefined> {
    const signal = signalOf(options);
    const mailboxId = options.mailboxId ?? "0";
    let epoch = await this.#epoch(mailboxId, signal);
    const { folder } = await this.call(FolderService.method.getFolder, { mailboxId, folderId }, signal);
    let since = options.since ?? folder?.changeNumber ?? "0";
    let snapshot = options.snapshot ?? false;
    for (;;) {
      if (snapshot) {
        let fresh = true;
        for (const piece of await this.#snapshot(mailboxId, folderId, options.signal)) {
          since = piece.folder?.changeNumber ?? since;
          yield { fresh, changes: piece.rows ?? create(FolderChangesSchema, { folderId }) };
          fresh = false;
        }
      }
      for await (const { notice } of this.#notices({ mailboxId, folderId, since, epoch }, options.signal)) {
        if (notice.case === "folder") {
          yield { fresh: false, changes: notice.value };
        }
      }
      epoch = await this.#epoch(mailboxId, signal);
      snapshot = true;
    }
  }

  /** Each new change number of a mailbox from now on. Leave the loop to end it. Throws as `watch` does. */
  async *watchMailbox(
    options: { readonly mailboxId?: string; readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<MailboxEvent, void, undefined> {
    const mailboxId = options.mailboxId ?? "0";
    for (let fresh = false; ; fresh = true) {
      const { mailbox } = await this.call(MailboxService.method.getMailbox, { mailboxId }, signalOf(options));
      const beginning = { mailboxId, folderId: "0", since: mailbox?.changeNumber ?? "0", epoch: mailbox?.epoch ?? "0" };
      if (fresh) {
        yield { fresh, changeNumber: beginning.since, folderIds: [] };
      }
      for await (const { notice } of this.#notices(beginning, options.signal)) {
        if (notice.case === "mailbox") {
          const { changeNumber, folderIds } = notice.value;
          yield { fresh: false, changeNumber, folderIds: folderIds.map(String) };
        }
      }
    }
  }

  /**
   * All that is in a mailbox or folder, or has changed since a cursor, and, unless `follow` is false, what comes then.
   *
   * Keep the cursor of each checkpoint to go on later. A broken stream goes on from the last one: what came after it
   * may come again. After a `resetReason` throw the copy away; everything follows anew. Throws CURSOR_INVALID and
   * FOLDER_NOT_FOUND.
   */
  async *sync(
    options: {
      readonly mailboxId?: string;
      readonly folderId?: string;
      readonly cursor?: Uint8Array;
      readonly columns?: readonly MessageColumn[];
      readonly follow?: boolean;
      readonly signal?: AbortSignal;
    } = {},
  ): AsyncGenerator<SyncMailboxResponse, void, undefined> {
    const follow = options.follow ?? true;
    let cursor = options.cursor ?? new Uint8Array();
    const open = () =>
      this.stream(
        SyncService.method.syncMailbox,
        {
          mailboxId: options.mailboxId ?? "0",
          folderId: options.folderId ?? "0",
          cursor,
          columns: [...(options.columns ?? LISTING)],
          follow,
        },
        signalOf(options),
      );
    for (let again = true; again; ) {
      again = follow;
      for await (const response of this.resumed(open, options.signal)) {
        yield response;
        const { change } = response;
        if (change.case === "checkpoint") {
          cursor = change.value.cursor;
        } else if (change.case === "resetReason") {
          cursor = new Uint8Array();
          again = true;
        }
      }
    }
  }

  /**
   * A job as it is now, and after each change until its end, with each finding once.
   *
   * A broken stream is opened again behind the last finding. Leaving the loop leaves the job running. Throws
   * JOB_NOT_FOUND and, for a session that may not administer, PERMISSION_DENIED.
   */
  async *watchJob(
    jobId: string,
    options: { readonly afterFinding?: string; readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<WatchJobResponse, void, undefined> {
    let afterFinding = options.afterFinding ?? "0";
    const open = () => this.stream(JobService.method.watchJob, { jobId, afterFinding }, signalOf(options));
    for await (const step of this.resumed(open, options.signal)) {
      afterFinding = step.findings.at(-1)?.findingNumber ?? afterFinding;
      yield step;
    }
  }

  async #epoch(mailboxId: string, options: CallOptions): Promise<string> {
    return (await this.call(MailboxService.method.getMailbox, { mailboxId }, options)).mailbox?.epoch ?? "0";
  }

  /** What a folder holds. A break begins it anew, so it is told only once it is whole. */
  async #snapshot(mailboxId: string, folderId: string, signal?: AbortSignal): Promise<OpenFolderResponse[]> {
    for (;;) {
      const collected: OpenFolderResponse[] = [];
      const { token } = this.session;
      try {
        const request = { mailboxId, folderId };
        for await (const piece of this.stream(FolderService.method.openFolder, request, signalOf({ signal }))) {
          collected.push(piece);
        }
        return collected;
      } catch (error) {
        if (error instanceof RestanteError && error.reason === "SESSION_EXPIRED") {
          await this.session.renew(token);
        } else if (this.closed || !(error instanceof RestanteError) || !error.temporary) {
          throw error;
        }
        await pause(SNAPSHOT_PAUSE_MS, signal);
      }
    }
  }

  /** Notices of one subscription until it is reset. Throws what rejects it, and what ended the session. */
  async *#notices(beginning: Beginning, signal?: AbortSignal): AsyncGenerator<WatchResponse, void, undefined> {
    let watching = this.#watch.subscribe(beginning);
    let { token } = this.session;
    let renewed = false;
    try {
      for (;;) {
        const told = await watching.next(signal);
        if (told instanceof RestanteError) {
          throw told;
        }
        if (told === "behind" || told.notice.case === "resetReason") {
          return;
        }
        if (told.notice.case === "rejected") {
          const error = errorFromStatus(told.notice.value);
          if (!error.unauthenticated || renewed) {
            throw error;
          }
          await this.session.renew(token); // it throws where the session is over
          renewed = true;
          ({ token } = this.session);
          watching = this.#watch.subscribe({ ...beginning, since: String(watching.since) });
          continue;
        }
        renewed = false;
        yield told;
      }
    } finally {
      this.#watch.unsubscribe(watching);
    }
  }
}

function signalOf(options: { readonly signal?: AbortSignal | undefined }): { readonly signal?: AbortSignal } {
  return options.signal === undefined ? {} : { signal: options.signal };
}

/** The error of a first call: one that says where the server was looked for, if it could not be reached. */
function unreached(connection: Connection, error: unknown): unknown {
  if (!(error instanceof RestanteError) || error.code !== "UNAVAILABLE" || error.reason !== "") {
    return error;
  }
  return new RestanteError(`Cannot reach ${connection.address}: ${error.message}`, { code: "UNAVAILABLE", cause: error });
}
