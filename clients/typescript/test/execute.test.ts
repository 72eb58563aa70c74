/** The multiplexer's rules, against a stream that the test answers itself. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import type { DuplexListener } from "../src/channel.js";
import { connectionLost, RestanteError } from "../src/errors.js";
import { Multiplexer, type OperationOptions } from "../src/execute.js";
import {
  type ExecuteRequest,
  ExecuteRequestSchema,
  type ExecuteResponse,
  ExecuteResponseSchema,
  type Operation,
} from "../src/gen/restante/v1/batch_pb.js";
import { FolderService, GetFolderRequestSchema } from "../src/gen/restante/v1/folder_pb.js";
import { AppendMessageRequestSchema, MessageService } from "../src/gen/restante/v1/message_pb.js";
import { AuthenticateRequestSchema, SessionService } from "../src/gen/restante/v1/session_pb.js";

// The contract's figures, said once more on purpose (batch.proto).
const [MAX_BATCH_OPERATIONS, MAX_BATCH_OCTETS, MAX_IN_FLIGHT, MAX_SESSION_IN_FLIGHT] = [256, 1 << 20, 1_000, 64];

/** One Execute call as the server sees it. */
class Call {
  readonly fresh: boolean;
  readonly requests: ExecuteRequest[] = [];
  readonly octets: number[] = [];
  readonly #listener: DuplexListener<ExecuteResponse>;
  closed = false;
  cancelled = false;
  held = false; // takes nothing more
  #waiting: (() => void)[] = [];

  constructor(fresh: boolean, listener: DuplexListener<ExecuteResponse>) {
    this.fresh = fresh;
    this.#listener = listener;
  }

  write(request: ExecuteRequest, done: () => void): void {
    const octets = toBinary(ExecuteRequestSchema, request);
    this.octets.push(octets.length);
    this.requests.push(fromBinary(ExecuteRequestSchema, octets));
    if (this.held) {
      this.#waiting.push(done);
    } else {
      setImmediate(done);
    }
  }

  takeOn(): void {
    this.held = false;
    this.#waiting.splice(0).forEach((done) => done());
  }

  get operations(): Operation[] {
    return this.requests.flatMap((request) => request.operations);
  }

  get folderIds(): string[] {
    return this.operations.map((one) => (one.request.case === "getFolder" ? one.request.value.folderId : ""));
  }

  answer(operations: readonly Operation[], more: MessageInitShape<typeof ExecuteResponseSchema> = {}): void {
    const results = operations.map(({ operationId, request }) => ({
      operationId,
      response: { case: "getFolder" as const, value: { folder: { folderId: folderIdOf(request) } } },
    }));
    this.#listener.message(create(ExecuteResponseSchema, { results, ...more }));
  }

  end(): void {
    this.closed = true;
  }

  cancel(): void {
    this.cancelled = true;
  }

  fail(error: RestanteError = connectionLost("gone")): void {
    this.#listener.ended(error);
  }
}

function folderIdOf(request: Operation["request"]): string {
  return request.case === "getFolder" ? request.value.folderId : "0";
}

/** Let everything that is due happen. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}

let calls: Call[];
let multiplexer: Multiplexer;

beforeEach(() => {
  calls = [];
  multiplexer = new Multiplexer((fresh, listener) => {
    const call = new Call(fresh, listener);
    calls.push(call);
    return call;
  });
});

afterEach(() => {
  multiplexer.close();
  mock.timers.reset();
});

function call(index = 0): Call {
  const found = calls[index];
  assert.ok(found, `there is no stream ${index}`);
  return found;
}

const [SESSION, OTHER] = [{}, {}];
const TOKEN = Uint8Array.of(1);

function getFolder(folderId: number, options: OperationOptions = {}): Promise<string> {
  const request = create(GetFolderRequestSchema, { folderId: String(folderId) });
  const done = multiplexer
    .execute(FolderService.method.getFolder, request, options)
    .then(({ folder }) => folder?.folderId ?? "");
  done.catch(() => undefined); // a test that wants the error awaits it
  return done;
}

function many(count: number, options: OperationOptions = {}): Promise<string>[] {
  return Array.from({ length: count }, (_, index) => getFolder(index + 1, options));
}

function numbers(first: number, last: number): string[] {
  return Array.from({ length: last - first + 1 }, (_, index) => String(first + index));
}

test("what is called in one turn goes in one batch, and each caller gets its own answer", async () => {
  const answers = many(3);
  await settle();
  assert.equal(call().requests.length, 1);
  call().answer(call().operations.toReversed());
  assert.deepEqual(await Promise.all(answers), ["1", "2", "3"]);
});

test("a batch has at most 256 operations", async () => {
  many(MAX_BATCH_OPERATIONS + 10);
  await settle();
  assert.deepEqual(call().requests.map(({ operations }) => operations.length), [MAX_BATCH_OPERATIONS, 10]);
});

test("a batch has at most 1 MiB, to the octet", async () => {
  const content = new Uint8Array(400 << 10);
  const request = create(AppendMessageRequestSchema, { content });
  for (let index = 0; index < 5; index += 1) {
    multiplexer.execute(MessageService.method.appendMessage, request).catch(() => undefined);
  }
  await settle();
  assert.deepEqual(call().requests.map(({ operations }) => operations.length), [2, 2, 1]);
  assert.ok(Math.max(...call().octets) <= MAX_BATCH_OCTETS);
});

test("the largest operation that fits is sent alone, a larger one is refused and harms nobody", async () => {
  const append = (octets: number) => {
    const request = create(AppendMessageRequestSchema, { content: new Uint8Array(octets) });
    return multiplexer.execute(MessageService.method.appendMessage, request);
  };
  append(MAX_BATCH_OCTETS - 24).catch(() => undefined);
  for (const octets of [MAX_BATCH_OCTETS - 20, MAX_BATCH_OCTETS]) {
    await assert.rejects(append(octets), { code: "RESOURCE_EXHAUSTED" });
  }
  getFolder(1);
  await settle();
  assert.deepEqual(call().requests.map(({ operations }) => operations.length), [1, 1]);
  assert.ok(Math.max(...call().octets) <= MAX_BATCH_OCTETS);
});

test("nothing is sent while the stream is not free, and then all that waits at once", async () => {
  getFolder(1);
  await settle();
  call().held = true;
  getFolder(2);
  await settle();
  many(5);
  await settle();
  assert.equal(call().requests.length, 2);
  call().takeOn();
  await settle();
  assert.deepEqual(call().requests.map(({ operations }) => operations.length), [1, 1, 5]);
});

test("at most 1,000 operations of a stream are without an answer", async () => {
  many(MAX_IN_FLIGHT + 20);
  await settle();
  assert.equal(call().operations.length, MAX_IN_FLIGHT);
  call().answer(call().operations.slice(0, 7));
  await settle();
  assert.equal(call().operations.length, MAX_IN_FLIGHT + 7);
});

test("at most 64 of one session, in order; other sessions pass it", async () => {
  many(MAX_SESSION_IN_FLIGHT + 5, { lane: SESSION, token: TOKEN });
  getFolder(1000, { lane: OTHER, token: TOKEN });
  await settle();
  const sent = call().folderIds.filter((id) => id !== "1000");
  assert.deepEqual(sent, numbers(1, MAX_SESSION_IN_FLIGHT));
  assert.ok(call().folderIds.includes("1000"));
  call().answer(call().operations.filter(({ request }) => folderIdOf(request) === "3"));
  await settle();
  assert.equal(call().folderIds.at(-1), String(MAX_SESSION_IN_FLIGHT + 1));
  assert.equal(call().operations.length, MAX_SESSION_IN_FLIGHT + 2);
});

test("sessions take turns in a batch", async () => {
  many(3, { lane: SESSION, token: TOKEN });
  getFolder(1000, { lane: OTHER, token: TOKEN });
  await settle();
  assert.deepEqual(call().folderIds, ["1", "1000", "2", "3"]);
});

test("a draining stream finishes what it has and is closed; what is new goes by a fresh connection", async () => {
  const [first, second] = [getFolder(1), getFolder(2)];
  await settle();
  call().answer(call().operations.slice(0, 1), { draining: true });
  const third = getFolder(3);
  await settle();
  assert.equal(calls.length, 2);
  assert.equal(call(1).fresh, true);
  assert.deepEqual(call(1).folderIds, ["3"]);
  assert.equal(call(0).closed, false);
  call(0).answer(call(0).operations.slice(1));
  call(1).answer(call(1).operations);
  await settle();
  assert.equal(call(0).closed, true);
  assert.deepEqual(await Promise.all([first, second, third]), ["1", "2", "3"]);
});

test("a session whose operations fly on a draining stream waits for them, to keep its order", async () => {
  many(2, { lane: SESSION, token: TOKEN });
  await settle();
  call().answer([], { draining: true });
  getFolder(3, { lane: SESSION, token: TOKEN });
  getFolder(9, { lane: OTHER, token: TOKEN });
  await settle();
  assert.deepEqual(call(1).folderIds, ["9"]);
  call(0).answer(call(0).operations);
  await settle();
  assert.deepEqual(call(1).folderIds, ["9", "3"]);
});

test("what a broken stream carried is sent again, in order and before the rest", async () => {
  const answers = many(MAX_SESSION_IN_FLIGHT + 2, { lane: SESSION, token: TOKEN });
  await settle();
  call().answer(call().operations.slice(0, 1));
  await settle();
  call().fail();
  await new Promise((resolve) => setTimeout(resolve, 80));
  assert.equal(call(1).fresh, false);
  assert.deepEqual(call(1).folderIds, numbers(2, MAX_SESSION_IN_FLIGHT + 1));
  call(1).answer(call(1).operations);
  await settle();
  call(1).answer(call(1).operations.slice(-1));
  assert.equal((await Promise.all(answers)).length, MAX_SESSION_IN_FLIGHT + 2);
});

test("a later step of a SASL exchange is not sent again", async () => {
  const request = create(AuthenticateRequestSchema, { exchange: Uint8Array.of(7) });
  const step = multiplexer.execute(SessionService.method.authenticate, request);
  step.catch(() => undefined);
  const other = getFolder(1);
  await settle();
  call().fail();
  await assert.rejects(step, { code: "UNAVAILABLE" });
  await new Promise((resolve) => setTimeout(resolve, 80));
  assert.deepEqual(call(1).folderIds, ["1"]);
  call(1).answer(call(1).operations);
  assert.equal(await other, "1");
});

test("a failure that does not pass by itself reaches those that it met, and nobody else", async () => {
  const met = getFolder(1);
  await settle();
  call().held = true;
  const alsoMet = getFolder(2);
  await settle();
  const spared = getFolder(3);
  await settle();
  call().fail(new RestanteError("no", { code: "RESOURCE_EXHAUSTED" }));
  await assert.rejects(met, { code: "RESOURCE_EXHAUSTED" });
  await assert.rejects(alsoMet, { code: "RESOURCE_EXHAUSTED" });
  await new Promise((resolve) => setTimeout(resolve, 80));
  call(1).answer(call(1).operations);
  assert.equal(await spared, "3");
});

test("a server that stays away fails an operation with its cause once patience is over", async () => {
  const open = (_fresh: boolean, listener: DuplexListener<ExecuteResponse>) => {
    setImmediate(() => listener.ended(connectionLost("nobody there")));
    return { write: () => undefined, end: () => undefined, cancel: () => undefined };
  };
  const impatient = new Multiplexer(open, { patienceMs: 200 });
  const began = performance.now();
  const request = create(GetFolderRequestSchema);
  await assert.rejects(impatient.execute(FolderService.method.getFolder, request), {
    code: "UNAVAILABLE",
    message: "nobody there",
  });
  assert.ok(performance.now() - began < 1_000);
  impatient.close();
});

test("an aborted operation is taken back where it waits, and cancelled at the server where it flies", async () => {
  const [flying, waiting] = [new AbortController(), new AbortController()];
  const first = getFolder(1, { signal: flying.signal });
  await settle();
  call().held = true;
  getFolder(2);
  await settle();
  const third = getFolder(3, { signal: waiting.signal });
  await settle();
  waiting.abort(new Error("enough"));
  flying.abort();
  await assert.rejects(first, { code: "CANCELLED" });
  await assert.rejects(third, (error: RestanteError) => (error.cause as Error).message === "enough");
  call().takeOn();
  await settle();
  assert.deepEqual(call().folderIds, ["1", "2"]);
  const [cancelledId] = call().requests.flatMap((request) => request.cancelOperationIds);
  assert.equal(String(cancelledId), call().operations[0]?.operationId);
});

test("an operation that is aborted before it begins is never sent", async () => {
  await assert.rejects(getFolder(1, { signal: AbortSignal.abort() }), { code: "CANCELLED" });
  await settle();
  assert.equal(calls.length, 0);
});

test("the server is told the time, and an answer that never comes is a deadline passed", async () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const late = getFolder(1, { timeoutMs: 2_000 });
  await settle();
  assert.equal(call().operations[0]?.timeoutMilliseconds, 2_000);
  mock.timers.tick(2_000);
  mock.timers.tick(1_000); // the server's own answer would have come by now
  await assert.rejects(late, { code: "DEADLINE_EXCEEDED" });
  await settle();
  assert.equal(call().requests.at(-1)?.cancelOperationIds.length, 1);
});

test("closing fails what is under way and all that comes", async () => {
  const under = getFolder(1);
  await settle();
  multiplexer.close();
  await assert.rejects(under, { code: "UNAVAILABLE" });
  assert.equal(call().cancelled, true);
  await assert.rejects(getFolder(2), { code: "UNAVAILABLE" });
  assert.equal(calls.length, 1);
});
