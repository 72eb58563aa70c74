/**
 * Reads mail from a running server, by the SDK or by bare stubs (grpc-js with the generated descriptors), and prints
 * what a message costs this process. tests/bench/sdk.py describes the loads.
 */

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { create, type DescMessage, fromBinary, type MessageInitShape, type MessageShape, toBinary } from "@bufbuild/protobuf";
import * as grpc from "@grpc/grpc-js";
import {
  BatchService,
  type ExecuteRequest,
  ExecuteRequestSchema,
  type ExecuteResponse,
  ExecuteResponseSchema,
} from "../src/gen/restante/v1/batch_pb.js";
import { FolderRole, FolderService } from "../src/gen/restante/v1/folder_pb.js";
import {
  BatchGetMessagesRequestSchema,
  BatchGetMessagesResponseSchema,
  MessageColumn,
  MessageService,
  type MessageSetSchema,
  SectionKind,
  StreamMessagesRequestSchema,
  type StreamMessagesResponse,
  StreamMessagesResponseSchema,
} from "../src/gen/restante/v1/message_pb.js";
import { Client } from "../src/index.js";
import { pathOf } from "../src/methods.js";

/** Reads some messages, and tells how many. */
type Load = () => Promise<number>;

const BATCH_MESSAGES = 20; // of one BatchGetMessages in the load batch_get
const WAITING = 32; // operations that wait together in the load execute, each for one message
const PAGE_SIZE = 1_000;

const columns = [MessageColumn.FLAGS, MessageColumn.SIZE, MessageColumn.SUMMARY];
const sections = [{ kind: SectionKind.WHOLE }];

const { values } = parseArgs({
  options: {
    target: { type: "string", default: "" },
    ca: { type: "string", default: "" },
    user: { type: "string", default: "" },
    password: { type: "string", default: "" },
    seconds: { type: "string", default: "5" },
    mode: { type: "string", default: "sdk" },
    load: { type: "string", default: "batch_get" },
  },
});
const ca = readFileSync(values.ca);
const client = await Client.connect({ target: values.target, ca }, { user: values.user, password: values.password });
const ids = await inbox();
let turn = 0;

/** So many ids, round and round. */
function take(count: number): bigint[] {
  const taken: bigint[] = [];
  while (taken.length < Math.min(count, ids.length)) {
    taken.push(ids[turn] ?? 0n);
    turn = (turn + 1) % ids.length;
  }
  return taken;
}

async function inbox(): Promise<bigint[]> {
  const { folder } = await client.service(FolderService).getFolder({ role: FolderRole.INBOX });
  const query = { folderId: folder?.folderId ?? "0", pageSize: PAGE_SIZE };
  const found: bigint[] = [];
  for await (const { rows } of client.pages(MessageService.method.queryMessages, query)) {
    found.push(...(rows?.messageIds ?? []));
  }
  if (found.length === 0) {
    throw new Error("the Inbox is empty");
  }
  return found;
}

function byId(messageIds: bigint[]): MessageInitShape<typeof MessageSetSchema> {
  return { messages: { case: "ids", value: { messageIds } } };
}

function streamed(): MessageInitShape<typeof StreamMessagesRequestSchema> {
  return { messages: byId(ids.slice(0, PAGE_SIZE)), columns, sections };
}

const sdk: Record<string, () => Load> = {
  batch_get: () => async () => {
    const request = { messages: byId(take(BATCH_MESSAGES)), columns };
    const { rows } = await client.call(MessageService.method.batchGetMessages, request);
    return rows?.messageIds.length ?? 0;
  },
  execute: () => async () => {
    const calls = Array.from({ length: WAITING }, () => {
      const request = { messages: byId(take(1)), columns };
      return client.call(MessageService.method.batchGetMessages, request, { independent: true });
    });
    const answers = await Promise.all(calls);
    return answers.reduce((sum, { rows }) => sum + (rows?.messageIds.length ?? 0), 0);
  },
  stream: () => async () => {
    let messages = 0;
    for await (const rows of client.streamMessages(streamed())) {
      messages += rows.messageIds.length;
    }
    return messages;
  },
};

const writes =
  <D extends DescMessage>(schema: D) =>
  (message: MessageShape<D>): Buffer =>
    Buffer.from(toBinary(schema, message));
const reads =
  <D extends DescMessage>(schema: D) =>
  (octets: Buffer): MessageShape<D> =>
    fromBinary(schema, octets);

let finish = (): void => undefined; // ends what the bare stubs have open

function bareChannel(): { stub: grpc.Client; metadata: grpc.Metadata } {
  const stub = new grpc.Client(values.target, grpc.credentials.createSsl(ca));
  finish = () => stub.close();
  const metadata = new grpc.Metadata();
  metadata.set("authorization", `Bearer ${Buffer.from(client.session.token).toString("base64url")}`);
  return { stub, metadata };
}

const bare: Record<string, () => Load> = {
  batch_get: () => {
    const { stub, metadata } = bareChannel();
    const path = pathOf(MessageService.method.batchGetMessages);
    const [writing, reading] = [writes(BatchGetMessagesRequestSchema), reads(BatchGetMessagesResponseSchema)];
    return () =>
      new Promise((resolve, reject) => {
        const request = create(BatchGetMessagesRequestSchema, {
          messages: byId(take(BATCH_MESSAGES)),
          columns,
        });
        stub.makeUnaryRequest(path, writing, reading, request, metadata, {}, (error, response) =>
          error === null ? resolve(response?.rows?.messageIds.length ?? 0) : reject(error),
        );
      });
  },
  execute: () => {
    const { stub, metadata } = bareChannel();
    const path = pathOf(BatchService.method.execute);
    const call = stub.makeBidiStreamRequest<ExecuteRequest, ExecuteResponse>(
      path,
      writes(ExecuteRequestSchema),
      reads(ExecuteResponseSchema),
      metadata,
      {},
    );
    let over = false;
    finish = () => {
      over = true;
      call.cancel();
      stub.close();
    };
    call.on("error", (error) => {
      if (!over) {
        throw error;
      }
    });
    let [lastId, answered, messages] = [0, 0, 0];
    let done = (_messages: number): void => undefined;
    call.on("data", ({ results }: ExecuteResponse) => {
      for (const { status, response } of results) {
        if (status !== undefined || response.case !== "batchGetMessages") {
          throw new Error(status?.message ?? "another answer");
        }
        messages += response.value.rows?.messageIds.length ?? 0;
        answered += 1;
      }
      if (answered === WAITING) {
        done(messages);
      }
    });
    return () =>
      new Promise((resolve) => {
        [answered, messages, done] = [0, 0, resolve];
        const operations = Array.from({ length: WAITING }, () => ({
          operationId: String(++lastId),
          sessionToken: client.session.token,
          independent: true,
          timeoutMilliseconds: 30_000,
          request: {
            case: "batchGetMessages" as const,
            value: create(BatchGetMessagesRequestSchema, { messages: byId(take(1)), columns }),
          },
        }));
        call.write(create(ExecuteRequestSchema, { operations }));
      });
  },
  stream: () => {
    const { stub, metadata } = bareChannel();
    const path = pathOf(MessageService.method.streamMessages);
    const [writing, reading] = [writes(StreamMessagesRequestSchema), reads(StreamMessagesResponseSchema)];
    return async () => {
      const request = create(StreamMessagesRequestSchema, streamed());
      let messages = 0;
      for await (const response of stub.makeServerStreamRequest(path, writing, reading, request, metadata, {})) {
        messages += (response as StreamMessagesResponse).rows?.messageIds.length ?? 0;
      }
      return messages;
    };
  },
};

async function during(load: Load, seconds: number): Promise<number> {
  const until = performance.now() + seconds * 1_000;
  let messages = 0;
  while (performance.now() < until) {
    messages += await load();
  }
  return messages;
}

const begin = (values.mode === "sdk" ? sdk : bare)[values.load];
if (begin === undefined) {
  throw new Error(`there is no load ${values.load}`);
}
const load = begin();
const seconds = Number(values.seconds);
await during(load, seconds / 5); // warm-up
const [before, began] = [process.cpuUsage(), performance.now()];
const messages = await during(load, seconds);
const elapsed = (performance.now() - began) / 1_000;
const used = process.cpuUsage(before);
const cpu = (used.user + used.system) / 1e6;
const { mode, load: name } = values;
console.log(
  JSON.stringify({ language: "TypeScript", mode, load: name, messages, seconds: elapsed, cpu_seconds: cpu }),
);
finish();
client.close();
