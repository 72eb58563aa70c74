/** The SDK's side of the conformance scenario: tests/conformance/README.md describes each command. */

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import {
  create,
  createRegistry,
  type DescMessage,
  type DescService,
  fromJson,
  type JsonValue,
  type Message,
  type MessageShape,
  toJson,
} from "@bufbuild/protobuf";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { file_restante_v1_admin } from "../src/gen/restante/v1/admin_pb.js";
import {
  BatchService,
  ExecuteOnceRequestSchema,
  file_restante_v1_batch,
  type Operation,
  OperationSchema,
} from "../src/gen/restante/v1/batch_pb.js";
import {
  file_restante_v1_content,
  UploadContentResponseSchema,
  UploadKind,
} from "../src/gen/restante/v1/content_pb.js";
import { file_restante_v1_directory } from "../src/gen/restante/v1/directory_pb.js";
import { file_restante_v1_folder } from "../src/gen/restante/v1/folder_pb.js";
import { file_restante_v1_job } from "../src/gen/restante/v1/job_pb.js";
import { file_restante_v1_mailbox } from "../src/gen/restante/v1/mailbox_pb.js";
import { file_restante_v1_message, MessageColumn, SectionSchema } from "../src/gen/restante/v1/message_pb.js";
import { file_restante_v1_session, SessionSchema } from "../src/gen/restante/v1/session_pb.js";
import { file_restante_v1_submission } from "../src/gen/restante/v1/submission_pb.js";
import { file_restante_v1_sync, SyncMailboxResponseSchema } from "../src/gen/restante/v1/sync_pb.js";
import { file_restante_v1_transport } from "../src/gen/restante/v1/transport_pb.js";
import { FolderChangesSchema } from "../src/gen/restante/v1/types_pb.js";
import { Client, Connection, type Credentials, errorFromStatus, RestanteError, VERSION } from "../src/index.js";
import { isServerStream, isUnary, operationCase, responseOf, type Unary } from "../src/methods.js";

interface GivenOperation {
  readonly method: string;
  readonly request: JsonValue;
  readonly timeout_milliseconds?: number;
  readonly independent?: boolean;
}

/** A command's line; which fields it has depends on `do`. */
interface Command {
  readonly id: number;
  readonly do: string;
  readonly as?: { session?: string; token?: string; identity?: string; secret?: string };
  readonly session: string;
  readonly user: string;
  readonly password: string;
  readonly token: string;
  readonly old: string;
  readonly new: string;
  readonly method: string;
  readonly request: JsonValue;
  readonly timeout_milliseconds?: number;
  readonly take?: number;
  readonly cancel_after_milliseconds?: number;
  readonly operations: readonly GivenOperation[];
  readonly kind: keyof typeof UploadKind;
  readonly path: string;
  readonly message_id: string;
  readonly section?: JsonValue;
  readonly stream: string;
  readonly folder_id?: string;
  readonly cursor?: string;
  readonly columns?: readonly string[];
  readonly follow: boolean;
}

type Answer = Record<string, unknown>;

const DEFAULT_TIMEOUT_MS = 30_000;

const SERVICES = new Map<string, DescService>(
  [
    file_restante_v1_admin,
    file_restante_v1_batch,
    file_restante_v1_content,
    file_restante_v1_directory,
    file_restante_v1_folder,
    file_restante_v1_job,
    file_restante_v1_mailbox,
    file_restante_v1_message,
    file_restante_v1_session,
    file_restante_v1_submission,
    file_restante_v1_sync,
    file_restante_v1_transport,
  ].flatMap((file) => file.services.map((service) => [service.name, service])),
);

function rpc(name: string) {
  const [service = "", method] = name.split("/");
  const found = SERVICES.get(service)?.methods.find((one) => one.name === method);
  if (found === undefined) {
    throw new Error(`there is no RPC ${name}`);
  }
  return found;
}

function unary(name: string): Unary & { readonly name: string } {
  const found = rpc(name);
  if (!isUnary(found)) {
    throw new Error(`${name} is not unary`);
  }
  return found;
}

/** What a google.rpc.Status holds as `Any`. */
const DETAILS = createRegistry(BadRequestSchema, ErrorInfoSchema, RetryInfoSchema);

function shown<D extends DescMessage>(schema: D, message: MessageShape<D>): JsonValue {
  return toJson(schema, message, { registry: DETAILS });
}

function shownError(error: RestanteError): Answer {
  const { code, reason, metadata, retrySeconds, detail, violations, message } = error;
  const delay = retrySeconds === undefined ? {} : { retry_seconds: retrySeconds };
  const type = error.constructor.name;
  return { code, reason, metadata, message: detail, violations, text: message, type, ...delay };
}

function octetsOf(base64: string): Uint8Array {
  return new Uint8Array(Buffer.from(base64, "base64"));
}

/** What came of something that only the SDK's own errors may end. */
async function outcome(work: () => Promise<Answer>): Promise<Answer> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof RestanteError) {
      return { error: shownError(error) };
    }
    throw error;
  }
}

/** A stream of the SDK that is read in the background. */
class Stream {
  readonly #queue: Answer[] = [];
  readonly #stop = new AbortController();
  #wake = (): void => undefined;
  readonly #reading: Promise<void>;

  constructor(open: (signal: AbortSignal) => AsyncIterable<JsonValue>) {
    this.#reading = this.#read(open(this.#stop.signal));
  }

  async #read(events: AsyncIterable<JsonValue>): Promise<void> {
    const end = await outcome(async () => {
      for await (const event of events) {
        this.#put({ result: { event } });
      }
      return { result: { end: true } };
    });
    this.#put(end);
  }

  #put(answer: Answer): void {
    this.#queue.push(answer);
    this.#wake();
  }

  async next(milliseconds: number): Promise<Answer> {
    if (this.#queue.length === 0) {
      await new Promise<void>((resolve) => {
        const alarm = setTimeout(resolve, milliseconds);
        this.#wake = () => {
          clearTimeout(alarm);
          resolve();
        };
      });
    }
    return this.#queue.shift() ?? { result: { event: null } };
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#reading;
  }
}

class Runner {
  readonly #target: { target: string; ca: Uint8Array };
  readonly #gatewayTarget: string;
  readonly #clients = new Map<string, Client>();
  readonly #streams = new Map<string, Stream>();
  readonly #connections = new Map<string, Connection>();

  constructor(hello: { target: string; gateway_target: string; ca: string }) {
    this.#target = { target: hello.target, ca: readFileSync(hello.ca) };
    this.#gatewayTarget = hello.gateway_target;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#streams.values()].map((stream) => stream.stop()));
    for (const one of [...this.#clients.values(), ...this.#connections.values()]) {
      one.close();
    }
  }

  async answer(command: Command): Promise<Answer> {
    const work = this.#commands[command.do];
    if (work === undefined) {
      return { unsupported: `there is no command ${command.do}` };
    }
    return outcome(() => work(command));
  }

  readonly #commands: Record<string, (command: Command) => Promise<Answer>> = {
    log_on: (command) => this.#opened(command, { user: command.user, password: command.password }),
    resume: (command) => this.#opened(command, { token: octetsOf(command.token) }),
    session: async (command) => this.#session(command),
    renew: async (command) => {
      await this.#client(command.session).session.renew();
      return this.#session(command);
    },
    change_password: async (command) => {
      await this.#client(command.session).session.changePassword(command.old, command.new);
      return this.#session(command);
    },
    log_off: async (command) => {
      await this.#client(command.session).session.logOff();
      return { result: {} };
    },
    close: async (command) => {
      this.#client(command.session).close();
      this.#clients.delete(command.session);
      return { result: {} };
    },
    rpc: (command) => this.#rpc(command),
    call: async (command) => {
      const method = unary(command.method);
      const response = await this.#as(command).call(method, fromJson(method.input, command.request), {
        timeoutMs: command.timeout_milliseconds ?? DEFAULT_TIMEOUT_MS,
      });
      return { result: { response: shown(method.output, response) } };
    },
    pages: async (command) => {
      const method = unary(command.method) as Unary<DescMessage, DescMessage> as never;
      const { input, output } = unary(command.method);
      const responses: JsonValue[] = [];
      for await (const page of this.#as(command).pages(method, fromJson(input, command.request))) {
        responses.push(shown(output, page));
      }
      return { result: { responses } };
    },
    execute: async (command) => {
      const client = this.#as(command);
      const outcomes = command.operations.map((operation) =>
        outcome(async () => {
          const method = unary(operation.method);
          const response = await client.connection.execute(method, fromJson(method.input, operation.request), {
            lane: client.session,
            token: client.session.token,
            timeoutMs: operation.timeout_milliseconds ?? DEFAULT_TIMEOUT_MS,
            independent: operation.independent ?? false,
          });
          return { response: shown(method.output, response) };
        }),
      );
      return { result: { outcomes: await Promise.all(outcomes) } };
    },
    execute_once: (command) => this.#executeOnce(command),
    upload: async (command) => {
      const name = command.kind.replace("UPLOAD_KIND_", "") as keyof typeof UploadKind;
      const response = await this.#as(command).upload(UploadKind[name], command.path);
      return { result: { response: shown(UploadContentResponseSchema, response) } };
    },
    read: async (command) => {
      const section = command.section === undefined ? undefined : fromJson(SectionSchema, command.section);
      const octets = await this.#as(command).read(command.message_id, section);
      return { result: { octets: Buffer.from(octets).toString("base64") } };
    },
    watch: async (command) => {
      const client = this.#as(command);
      const { folder_id = "0" } = command;
      this.#open(command, async function* (signal) {
        for await (const { fresh, changes } of client.watch(folder_id, { snapshot: true, signal })) {
          yield { fresh, changes: shown(FolderChangesSchema, changes) };
        }
      });
      return { result: {} };
    },
    sync: async (command) => {
      const client = this.#as(command);
      const names = (command.columns ?? []).map((name) => name.replace("MESSAGE_COLUMN_", ""));
      const columns = names.map((name) => MessageColumn[name as keyof typeof MessageColumn]);
      const cursor = octetsOf(command.cursor ?? "");
      const { folder_id: folderId = "0", follow } = command;
      this.#open(command, async function* (signal) {
        for await (const response of client.sync({ folderId, cursor, columns, follow, signal })) {
          yield shown(SyncMailboxResponseSchema, response);
        }
      });
      return { result: {} };
    },
    next: (command) => this.#stream(command).next(command.timeout_milliseconds ?? DEFAULT_TIMEOUT_MS),
    stop: async (command) => {
      await this.#stream(command).stop();
      this.#streams.delete(command.stream);
      return { result: {} };
    },
  };

  async #opened(command: Command, credentials: Credentials): Promise<Answer> {
    this.#clients.get(command.session)?.close();
    this.#clients.delete(command.session);
    this.#clients.set(command.session, await Client.connect(this.#target, credentials));
    return this.#session(command);
  }

  #session(command: Command): Answer {
    return { result: { session: shown(SessionSchema, this.#client(command.session).session.info) } };
  }

  #client(name: string | undefined): Client {
    const client = this.#clients.get(name ?? "");
    if (client === undefined) {
      throw new Error(`there is no session ${name}`);
    }
    return client;
  }

  #as(command: Command): Client {
    return this.#client(command.as?.session);
  }

  /** A connection for the bare stubs, and the token of who calls. */
  #caller({ as = {} }: Command): { connection: Connection; token?: Uint8Array } {
    const identity = as.identity === undefined ? undefined : { name: as.identity, secret: as.secret ?? "" };
    const key = identity === undefined ? "" : `${identity.name} ${identity.secret}`;
    let connection = this.#connections.get(key);
    if (connection === undefined) {
      const own =
        identity === undefined
          ? {}
          : {
              target: this.#gatewayTarget,
              metadata: { "restante-identity": identity.name, "restante-secret": identity.secret },
            };
      connection = new Connection({ ...this.#target, ...own });
      this.#connections.set(key, connection);
    }
    if (as.token !== undefined) {
      return { connection, token: octetsOf(as.token) };
    }
    return as.session === undefined ? { connection } : { connection, token: this.#client(as.session).session.token };
  }

  async #rpc(command: Command): Promise<Answer> {
    const method = rpc(command.method);
    const request = fromJson(method.input, command.request);
    const { connection, token } = this.#caller(command);
    const controller = new AbortController();
    if (command.cancel_after_milliseconds !== undefined) {
      setTimeout(() => controller.abort(), command.cancel_after_milliseconds);
    }
    const options = {
      timeoutMs: command.timeout_milliseconds ?? DEFAULT_TIMEOUT_MS,
      signal: controller.signal,
      ...(token === undefined ? {} : { token }),
    };
    if (isUnary(method)) {
      const response = await connection.unary(method, request, options);
      return { result: { response: shown(method.output, response) } };
    }
    if (!isServerStream(method)) {
      throw new Error(`${command.method} has a stream of requests`);
    }
    const responses: JsonValue[] = [];
    const stream = connection.serverStream(method, request, options);
    while (command.take === undefined || responses.length < command.take) {
      const next = await stream.next();
      if (next.done === true) {
        return { result: { responses, complete: true } };
      }
      responses.push(shown(method.output, next.value));
    }
    await stream.return();
    return { result: { responses, complete: false } };
  }

  async #executeOnce(command: Command): Promise<Answer> {
    const { connection, token } = this.#caller(command);
    const operations = command.operations.map((given, index) => {
      const method = unary(given.method);
      const operation = create(OperationSchema, {
        operationId: String(index + 1),
        timeoutMilliseconds: given.timeout_milliseconds ?? 0,
        independent: given.independent ?? false,
        ...(command.as?.session === undefined || token === undefined ? {} : { sessionToken: token }),
      });
      const value = fromJson(method.input, given.request);
      operation.request = { case: placeOf(method), value } as Operation["request"];
      return operation;
    });
    const { results } = await connection.unary(
      BatchService.method.executeOnce,
      create(ExecuteOnceRequestSchema, { operations }),
      { timeoutMs: DEFAULT_TIMEOUT_MS, ...(token === undefined ? {} : { token }) },
    );
    if (results.length !== operations.length) {
      throw new Error(`${results.length} results for ${operations.length} operations`);
    }
    const outcomes = results.map((result, index) => {
      if (result.status !== undefined) {
        return { error: shownError(errorFromStatus(result.status)) };
      }
      const method = unary(command.operations[index]?.method ?? "");
      return { response: shown(method.output, responseOf(result, placeOf(method)) as Message) };
    });
    return { result: { outcomes } };
  }

  #open(command: Command, events: (signal: AbortSignal) => AsyncIterable<JsonValue>): void {
    this.#streams.set(command.stream, new Stream(events));
  }

  #stream(command: Command): Stream {
    const stream = this.#streams.get(command.stream);
    if (stream === undefined) {
      throw new Error(`there is no stream ${command.stream}`);
    }
    return stream;
  }
}

function placeOf(method: Unary & { readonly name: string }): string {
  const place = operationCase(method);
  if (place === undefined) {
    throw new Error(`${method.name} is no operation of a batch`);
  }
  return place;
}

function write(line: Answer): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

let runner: Runner | undefined;
for await (const line of createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY })) {
  const parsed = JSON.parse(line);
  if (runner === undefined) {
    runner = new Runner(parsed.hello);
    write({ ready: { sdk: VERSION, runtime: `Node ${process.version}`, encoding: "json" } });
  } else {
    write({ id: parsed.id, ...(await runner.answer(parsed)) });
  }
}
await runner?.close();
