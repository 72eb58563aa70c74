/** What a client adds to a call, against a connection that the test answers itself. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { create, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Client } from "../src/client.js";
import { Connection } from "../src/connection.js";
import { RestanteError } from "../src/errors.js";
import type { OperationOptions } from "../src/execute.js";
import {
  CreateFolderResponseSchema,
  FolderService,
  ListFoldersResponseSchema,
} from "../src/gen/restante/v1/folder_pb.js";
import { type WatchJobRequest, WatchJobResponseSchema } from "../src/gen/restante/v1/job_pb.js";
import { AuthenticateResponseSchema, RenewSessionResponseSchema } from "../src/gen/restante/v1/session_pb.js";
import type { CommitToken } from "../src/gen/restante/v1/types_pb.js";
import type { Unary } from "../src/methods.js";

interface Made {
  readonly name: string;
  readonly request: { requestId?: Uint8Array; minCommit?: CommitToken; pageSize?: number; pageToken?: string };
  readonly options: OperationOptions;
}

type Answer = (made: Made) => object;

/** A connection whose every call is written down and answered by the next answer. */
class Scripted extends Connection {
  readonly made: Made[] = [];
  readonly answers: Answer[] = [];

  constructor() {
    super({ target: "localhost:1" });
  }

  override async run<I extends DescMessage, O extends DescMessage>(
    method: Unary<I, O>,
    request: MessageShape<I>,
    options: OperationOptions = {},
  ): Promise<MessageShape<O>> {
    const made = { name: (method as Unary & { name: string }).name, request, options } as Made;
    this.made.push(made);
    const answer = this.answers.shift();
    assert.ok(answer, `nobody expected ${made.name}`);
    return answer(made) as MessageShape<O>;
  }
}

const session = (token: number) => ({
  sessionToken: Uint8Array.of(token),
  mailboxId: "7",
  expiresAt: timestampFromMs(Date.now() - 900_000), // the server's clock is another: it does not count
  lifetimeMilliseconds: "900000",
});

const fails = (code: RestanteError["code"], reason = "", retrySeconds?: number): Answer => () => {
  throw new RestanteError(reason || code, { code, reason, ...(retrySeconds === undefined ? {} : { retrySeconds }) });
};
const created = (changeNumber: string, epoch = "1"): Answer => () =>
  create(CreateFolderResponseSchema, { commit: { mailboxId: "7", changeNumber, epoch } });
const listed = (nextPageToken = ""): Answer => () => create(ListFoldersResponseSchema, { nextPageToken });
const renewed: Answer = () => create(RenewSessionResponseSchema, { session: session(2) });

const { createFolder, listFolders } = FolderService.method;
let connection: Scripted;
let client: Client;

beforeEach(async () => {
  connection = new Scripted();
  connection.answers.push(() => create(AuthenticateResponseSchema, { session: session(1) }));
  client = await Client.connect(connection, { user: "alice@example.test", password: "alice-demo" });
  connection.made.length = 0;
});

afterEach(() => {
  client.close();
  connection.close();
});

test("one request id is made for a call and kept when it is repeated; another call has another", async () => {
  connection.answers.push(fails("UNAVAILABLE"), fails("UNAVAILABLE"), created("1"), created("2"));
  await client.call(createFolder, { path: ["A"] });
  await client.call(createFolder, { path: ["B"] });
  const ids = connection.made.map(({ request }) => Buffer.from(request.requestId ?? []).toString("hex"));
  assert.equal(ids[0]?.length, 32);
  assert.deepEqual([ids[1], ids[2]], [ids[0], ids[0]]);
  assert.notEqual(ids[3], ids[0]);
});

test("a request id that is given is used, and the caller's own request stays as it is", async () => {
  const requestId = new Uint8Array(16).fill(5);
  connection.answers.push(created("1"), created("2"));
  await client.call(createFolder, { path: ["A"], requestId });
  const request = { path: ["A"] };
  await client.call(createFolder, request);
  assert.deepEqual(connection.made[0]?.request.requestId, requestId);
  assert.deepEqual(request, { path: ["A"] });
});

test("reads ask for the latest write that the client has seen, in that mailbox", async () => {
  connection.answers.push(listed(), created("5"), created("4"), listed(), listed());
  await client.call(listFolders, {});
  await client.call(createFolder, { path: ["A"] });
  await client.call(createFolder, { path: ["B"] });
  await client.call(listFolders, {});
  await client.call(listFolders, { mailboxId: "8" });
  const asked = connection.made.map(({ request }) => request.minCommit?.changeNumber);
  assert.deepEqual(asked, [undefined, undefined, undefined, "5", undefined]);
});

test("after a restore the client's own commits are forgotten; one that the caller gave is an error", async () => {
  connection.answers.push(created("5"), fails("FAILED_PRECONDITION", "EPOCH_CHANGED"), listed(), created("1", "2"));
  await client.call(createFolder, { path: ["A"] });
  await client.call(listFolders, {});
  assert.equal(connection.made.at(-1)?.request.minCommit, undefined);
  await client.call(createFolder, { path: ["B"] });
  connection.answers.push(fails("FAILED_PRECONDITION", "EPOCH_CHANGED"));
  const minCommit = { mailboxId: "7", changeNumber: "5", epoch: "1" };
  await assert.rejects(client.call(listFolders, { minCommit }), { reason: "EPOCH_CHANGED" });
});

test("an expired session is renewed once, and the call made again with the new token", async () => {
  connection.answers.push(fails("UNAUTHENTICATED", "SESSION_EXPIRED"), renewed, listed());
  await client.call(listFolders, {});
  assert.deepEqual(connection.made.map(({ name }) => name), ["ListFolders", "RenewSession", "ListFolders"]);
  assert.deepEqual(connection.made.map(({ options }) => options.token?.[0]), [1, 1, 2]);
  const again = fails("UNAUTHENTICATED", "SESSION_EXPIRED");
  connection.answers.push(again, renewed, again);
  await assert.rejects(client.call(listFolders, {}), { reason: "SESSION_EXPIRED" });
});

test("calls that meet an expired session at once renew it once", async () => {
  const expired = fails("UNAUTHENTICATED", "SESSION_EXPIRED");
  connection.answers.push(expired, expired, expired, renewed, listed(), listed(), listed());
  await Promise.all([1, 2, 3].map(() => client.call(listFolders, {})));
  assert.equal(connection.made.filter(({ name }) => name === "RenewSession").length, 1);
});

test("a session that is over says so to whoever listens", async () => {
  const over = fails("UNAUTHENTICATED", "SESSION_REVOKED");
  connection.answers.push(over);
  await assert.rejects(client.session.renew(), { reason: "SESSION_REVOKED" });
  assert.equal(client.session.ended.aborted, true);
  assert.equal((client.session.ended.reason as RestanteError).reason, "SESSION_REVOKED");
});

test("another attempt comes no sooner than the server asks, and none that the deadline does not allow", async () => {
  const began = performance.now();
  connection.answers.push(fails("UNAVAILABLE", "STORE_BUSY", 0.2), listed());
  await client.call(listFolders, {});
  assert.ok(performance.now() - began >= 199);
  connection.answers.push(fails("UNAVAILABLE", "STORE_BUSY", 2));
  await assert.rejects(client.call(listFolders, {}, { timeoutMs: 500 }), { reason: "STORE_BUSY" });
  assert.equal(connection.answers.length, 0);
});

test("what is not temporary is not repeated, and the time left goes with each attempt", async () => {
  connection.answers.push(fails("UNAVAILABLE"), fails("NOT_FOUND", "FOLDER_NOT_FOUND"));
  await assert.rejects(client.call(listFolders, {}, { timeoutMs: 5_000 }), { reason: "FOLDER_NOT_FOUND" });
  const [first = 0, second = 0] = connection.made.map(({ options }) => options.timeoutMs);
  assert.ok(first <= 5_000 && second < first);
});

test("an abort ends the waiting between attempts", async () => {
  connection.answers.push(fails("UNAVAILABLE", "STORE_BUSY", 10));
  const call = client.call(listFolders, {}, { signal: AbortSignal.timeout(50) });
  await assert.rejects(call, (error: RestanteError) => error.code === "CANCELLED" && error.cause instanceof Error);
});

test("pages follow their tokens", async () => {
  connection.answers.push(listed("b"), listed("c"), listed());
  const pages = [];
  for await (const page of client.pages(listFolders, { pageSize: 10 })) {
    pages.push(page);
  }
  assert.equal(pages.length, 3);
  const asked = connection.made.map(({ request }) => [request.pageSize, request.pageToken]);
  assert.deepEqual(asked, [[10, ""], [10, "b"], [10, "c"]]);
});

test("a job that is watched goes on behind the last finding when its stream breaks", async () => {
  const asked: string[] = [];
  const step = (...numbers: string[]) =>
    create(WatchJobResponseSchema, { findings: numbers.map((findingNumber) => ({ findingNumber })) });
  const streams = [[step("1", "2"), step()], [step("3")]];
  connection.serverStream = async function* (_method: unknown, request: object) {
    asked.push((request as WatchJobRequest).afterFinding);
    yield* streams.shift() ?? [];
    if (streams.length > 0) {
      throw new RestanteError("broken", { code: "UNAVAILABLE", reason: "" });
    }
  } as typeof connection.serverStream;
  const found: string[] = [];
  for await (const { findings } of client.watchJob("4")) {
    found.push(...findings.map(({ findingNumber }) => findingNumber));
  }
  assert.deepEqual([found, asked], [["1", "2", "3"], ["0", "2"]]);
});

test("a closed client calls nobody", async () => {
  client.close();
  await assert.rejects(client.call(listFolders, {}), { code: "UNAVAILABLE" });
  assert.equal(connection.made.length, 0);
});
