/** What becomes an error of which kind, and which of them are tried again. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { anyPack } from "@bufbuild/protobuf/wkt";
import * as grpc from "@grpc/grpc-js";
import { errorFromCall, errorFromStatus, isRestanteError, RestanteError } from "../src/errors.js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../src/gen/google/rpc/status_pb.js";
import { FolderService, GetFolderRequestSchema } from "../src/gen/restante/v1/folder_pb.js";
import { AuthenticateRequestSchema, SessionService } from "../src/gen/restante/v1/session_pb.js";
import { mayRepeat, Pauses } from "../src/retry.js";

function status(domain = "restante") {
  const info = create(ErrorInfoSchema, { reason: "QUOTA_EXCEEDED", domain, metadata: { limit_octets: "5" } });
  const retry = create(RetryInfoSchema, { retryDelay: { seconds: 1n, nanos: 500_000_000 } });
  const details = [anyPack(ErrorInfoSchema, info), anyPack(RetryInfoSchema, retry)];
  return create(StatusSchema, { code: grpc.status.RESOURCE_EXHAUSTED, message: "Full.", details });
}

function serviceError(code: grpc.status, details = "", trailer?: Uint8Array): grpc.ServiceError {
  const metadata = new grpc.Metadata();
  if (trailer !== undefined) {
    metadata.set("grpc-status-details-bin", Buffer.from(trailer));
  }
  return Object.assign(new Error(details), { code, details, metadata });
}

test("a status has code, reason, metadata and delay, in a batch and in a call's trailers alike", () => {
  const trailer = toBinary(StatusSchema, status());
  const inCall = errorFromCall(serviceError(grpc.status.RESOURCE_EXHAUSTED, "Full.", trailer));
  for (const error of [errorFromStatus(status()), inCall]) {
    assert.ok(error instanceof RestanteError && error instanceof Error);
    assert.equal(error.code, "RESOURCE_EXHAUSTED");
    assert.equal(error.reason, "QUOTA_EXCEEDED");
    assert.deepEqual(error.metadata, { limit_octets: "5" });
    assert.equal(error.retrySeconds, 1.5);
    assert.equal(error.message, "Full.");
    assert.ok(isRestanteError(error, "QUOTA_EXCEEDED") && !isRestanteError(error, "STORE_FULL"));
  }
});

for (const [fields, text] of [
  [[["columns", "not known"]], "No."],
  [[["password", "too short"]], "No. Bad fields: password (too short)."],
  [
    [
      ["columns", "not known"],
      ["page_size", "negative"],
    ],
    "No. Bad fields: columns (not known); page_size (negative).",
  ],
] as const) {
  test(`bad fields are typed, and the text is "${text}"`, () => {
    const metadata = { field: "columns", problem: "not known" };
    const info = create(ErrorInfoSchema, { reason: "INVALID_ARGUMENT", domain: "restante", metadata });
    const bad = create(BadRequestSchema, {
      fieldViolations: fields.map(([field, description]) => ({ field, description })),
    });
    const details = [anyPack(ErrorInfoSchema, info), anyPack(BadRequestSchema, bad)];
    const refused = create(StatusSchema, { code: grpc.status.INVALID_ARGUMENT, message: "No.", details });
    const trailer = toBinary(StatusSchema, refused);
    const inCall = errorFromCall(serviceError(grpc.status.INVALID_ARGUMENT, "No.", trailer));
    for (const error of [errorFromStatus(refused), inCall]) {
      assert.deepEqual(
        error.violations.map(({ field, problem }) => [field, problem]),
        fields,
      );
      assert.deepEqual([error.message, error.detail], [text, "No."]);
    }
  });
}

test("a reason of another domain is not one of the contract", () => {
  assert.equal(errorFromStatus(status("example.org")).reason, "");
});

test("trailers that cannot be read leave the code and the text", () => {
  const error = errorFromCall(serviceError(grpc.status.NOT_FOUND, "hm", Uint8Array.of(255, 255)));
  assert.deepEqual([error.code, error.reason, error.message], ["NOT_FOUND", "", "hm"]);
});

for (const [code, details, expected] of [
  [grpc.status.UNAVAILABLE, "Connection dropped", "UNAVAILABLE"],
  [grpc.status.CANCELLED, "Call cancelled", "UNAVAILABLE"], // not by us: nobody here asked for it
  [grpc.status.INTERNAL, "Received RST_STREAM with code 2 (Internal server error)", "UNAVAILABLE"],
  [grpc.status.INTERNAL, "Something else", "INTERNAL"],
  [grpc.status.DEADLINE_EXCEEDED, "Deadline exceeded after 1s", "DEADLINE_EXCEEDED"],
  [99 as grpc.status, "from the future", "UNKNOWN"],
] as const) {
  test(`${grpc.status[code] ?? code} "${details}" without a status of the server's is ${expected}`, () => {
    assert.equal(errorFromCall(serviceError(code, details)).code, expected);
  });
}

const getFolder = create(GetFolderRequestSchema);
const laterStep = create(AuthenticateRequestSchema, { exchange: Uint8Array.of(1) });

for (const [facts, repeated] of [
  [{ code: "UNAVAILABLE" }, true],
  [{ code: "UNAVAILABLE", reason: "STORE_BUSY" }, true],
  [{ code: "RESOURCE_EXHAUSTED", reason: "TOO_MANY_OPERATIONS" }, true],
  [{ code: "RESOURCE_EXHAUSTED", reason: "QUOTA_EXCEEDED" }, false],
  [{ code: "RESOURCE_EXHAUSTED", reason: "TOO_MANY_ATTEMPTS" }, false],
  [{ code: "DEADLINE_EXCEEDED" }, false],
  [{ code: "ABORTED", reason: "CHANGE_CONFLICT" }, false],
  [{ code: "INTERNAL", reason: "INTERNAL" }, false],
  [{ code: "CANCELLED" }, false],
] as const) {
  test(`${JSON.stringify(facts)} is ${repeated ? "" : "not "}tried again`, () => {
    const error = new RestanteError("x", facts);
    assert.equal(mayRepeat(FolderService.method.getFolder, getFolder, error), repeated);
    assert.equal(mayRepeat(SessionService.method.authenticate, create(AuthenticateRequestSchema), error), repeated);
    assert.equal(mayRepeat(SessionService.method.authenticate, laterStep, error), false);
  });
}

test("pauses grow to their limit, heed the server's delay, and begin anew", () => {
  const pauses = new Pauses(100, 400);
  for (const most of [100, 200, 400, 400]) {
    const ms = pauses.next();
    assert.ok(ms >= most / 2 && ms <= most, `${ms} of ${most}`);
  }
  assert.equal(pauses.next(3), 3_000);
  pauses.reset();
  assert.ok(pauses.next() <= 100);
});
