/** Why a call failed: one error type, told apart by its reason. */

import type { Message } from "@bufbuild/protobuf";
import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import * as grpc from "@grpc/grpc-js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import type { Status } from "./gen/google/rpc/status_pb.js";
import { StatusSchema } from "./gen/google/rpc/status_pb.js";
import type { ErrorReason } from "./gen/restante/v1/errors_pb.js";

/** Name of a gRPC status code, such as `"NOT_FOUND"`. */
export type StatusCode = Exclude<keyof typeof grpc.status, "OK">;

/** A reason of the contract, such as `"FOLDER_NOT_FOUND"`: the names of `ErrorReason`, which explains each. */
export type Reason = Exclude<keyof typeof ErrorReason, "UNSPECIFIED">;

/** One bad field of a refused request. */
export interface FieldViolation {
  /** Its path in the request, such as `"draft.attachments"`. */
  readonly field: string;
  /** What is wrong with its value. */
  readonly problem: string;
}

/** What an error is made of; see the fields of `RestanteError`. */
export interface ErrorFacts {
  readonly code: StatusCode;
  readonly reason?: string;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly retrySeconds?: number;
  readonly violations?: readonly FieldViolation[];
  readonly cause?: unknown;
}

const DOMAIN = "restante";

/**
 * What every call of this package throws when the server, the connection, the deadline or the caller's AbortSignal
 * ends it. `message` is the sentence in `detail`, and names the bad fields that the sentence does not.
 */
export class RestanteError extends Error {
  override readonly name = "RestanteError";
  /** A sentence for people, as the server sent it. */
  readonly detail: string;
  /** The gRPC status code's name. */
  readonly code: StatusCode;
  /**
   * The reason of the contract; one that this version does not know comes as it is. Empty where the server gave none:
   * the connection was lost, the deadline passed here, the caller aborted.
   */
  readonly reason: Reason | "" | (string & {});
  /** Facts about the reason: the keys that its comment in `ErrorReason` names. */
  readonly metadata: Readonly<Record<string, string>>;
  /** How long the server asks to wait before another attempt; undefined when it does not say. */
  readonly retrySeconds: number | undefined;
  /** All bad fields of a refused request, the reason's field first; empty where no field is at fault. */
  readonly violations: readonly FieldViolation[];

  constructor(detail: string, facts: ErrorFacts) {
    super(detail + badFields(facts), facts.cause === undefined ? undefined : { cause: facts.cause });
    this.detail = detail;
    this.code = facts.code;
    this.reason = facts.reason ?? "";
    this.metadata = facts.metadata ?? {};
    this.retrySeconds = facts.retrySeconds;
    this.violations = facts.violations ?? [];
  }

  /** Whether the same call may succeed a little later, on another connection. */
  get temporary(): boolean {
    return this.code === "UNAVAILABLE";
  }

  /** Whether the session that called is no good any more, or never was. */
  get unauthenticated(): boolean {
    return this.code === "UNAUTHENTICATED";
  }
}

/** Names the bad fields. It is empty where the only one is the reason's, which the server's sentence names. */
function badFields({ violations = [], metadata = {} }: ErrorFacts): string {
  if (violations.length === 0 || (violations.length === 1 && violations[0]?.field === metadata["field"])) {
    return "";
  }
  return ` Bad fields: ${violations.map(({ field, problem }) => `${field} (${problem})`).join("; ")}.`;
}

/** Whether something thrown is a `RestanteError`, and, with `reason`, one for this reason. */
export function isRestanteError(thrown: unknown, reason?: Reason): thrown is RestanteError {
  return thrown instanceof RestanteError && (reason === undefined || thrown.reason === reason);
}

/** The error that a status of the contract tells of: that of an operation in a batch, or of a call. */
export function errorFromStatus(status: Status): RestanteError {
  let reason = "";
  let metadata: Record<string, string> = {};
  let retrySeconds: number | undefined;
  let violations: FieldViolation[] = [];
  for (const detail of status.details) {
    const info = anyUnpack(detail, ErrorInfoSchema);
    if (info !== undefined && info.domain === DOMAIN) {
      ({ reason, metadata } = info);
    }
    const delay = anyUnpack(detail, RetryInfoSchema)?.retryDelay;
    if (delay !== undefined) {
      retrySeconds = Number(delay.seconds) + delay.nanos / 1e9;
    }
    const bad = anyUnpack(detail, BadRequestSchema)?.fieldViolations;
    if (bad !== undefined) {
      violations = bad.map(({ field, description }) => ({ field, problem: description }));
    }
  }
  return new RestanteError(status.message, {
    code: codeName(status.code),
    reason,
    metadata,
    violations,
    ...(retrySeconds === undefined ? {} : { retrySeconds }),
  });
}

/** Whoever called wanted no more of it. `why` is the AbortSignal's reason. */
export function cancelled(why?: unknown): RestanteError {
  return new RestanteError("The call was cancelled.", { code: "CANCELLED", cause: why });
}

/** The connection ended, or was closed, before the answer came. */
export function connectionLost(message: string, cause?: unknown): RestanteError {
  return new RestanteError(message, { code: "UNAVAILABLE", cause });
}

/** The time that the caller gave has run out. */
export function deadlineExceeded(): RestanteError {
  return new RestanteError("The call's time ran out.", { code: "DEADLINE_EXCEEDED" });
}

/**
 * The error that a failed call of gRPC tells of. What gRPC reports as an internal fault or a cancellation of its own,
 * without a status of the server's, is a connection that was lost.
 */
export function errorFromCall(error: grpc.ServiceError): RestanteError {
  const status = statusOf(error);
  if (status !== undefined) {
    return errorFromStatus(status);
  }
  const code = codeName(error.code);
  const broken = code === "CANCELLED" || (code === "INTERNAL" && error.details.startsWith("Received RST_STREAM"));
  return broken ? connectionLost(error.details, error) : new RestanteError(error.details, { code, cause: error });
}

/** The status in the trailers, where the server sent one that can be read. */
function statusOf(error: grpc.ServiceError): (Status & Message) | undefined {
  const [octets] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (!(octets instanceof Uint8Array)) {
    return undefined;
  }
  try {
    return fromBinary(StatusSchema, octets);
  } catch {
    return undefined; // not from a server of ours: the code and the text say what is known
  }
}

function codeName(code: number): StatusCode {
  const name: string | undefined = grpc.status[code];
  return name === undefined || name === "OK" ? "UNKNOWN" : (name as StatusCode);
}
