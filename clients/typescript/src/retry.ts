/** When to try again, and how long to wait: pure decisions, and the waiting. */

import { setTimeout as sleep } from "node:timers/promises";
import type { DescMethod, Message } from "@bufbuild/protobuf";
import { cancelled, type RestanteError } from "./errors.js";
import { SessionService } from "./gen/restante/v1/session_pb.js";

/** Milliseconds on a clock that never goes back. */
export function now(): number {
  return performance.now();
}

/** Pauses between attempts: each twice the one before, up to a limit, and shortened at random. */
export class Pauses {
  readonly #firstMs: number;
  readonly #longestMs: number;
  #ms: number;

  constructor(firstMs: number, longestMs: number) {
    this.#ms = this.#firstMs = firstMs;
    this.#longestMs = longestMs;
  }

  /** Milliseconds to wait now; at least what the server asks for. */
  next(retrySeconds = 0): number {
    const pause = this.#ms * (0.5 + Math.random() / 2);
    this.#ms = Math.min(2 * this.#ms, this.#longestMs);
    return Math.max(pause, retrySeconds * 1_000);
  }

  /** Something worked: begin anew. */
  reset(): void {
    this.#ms = this.#firstMs;
  }
}

/**
 * Whether a call that failed so may be made again. What passes by itself may, since a call that must not happen twice
 * carries a request_id; only a later step of a SASL exchange is good once.
 */
export function mayRepeat(method: DescMethod, request: Message, error: RestanteError): boolean {
  if (!error.temporary && error.reason !== "TOO_MANY_OPERATIONS") {
    return false;
  }
  return !isLaterStep(method, request);
}

function isLaterStep(method: DescMethod, request: Message): boolean {
  if (method !== SessionService.method.authenticate) {
    return false;
  }
  const exchange = (request as Message & { exchange?: Uint8Array }).exchange;
  return exchange !== undefined && exchange.length > 0;
}

/** Wait. Throws CANCELLED when the signal is aborted. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, signal === undefined ? {} : { signal });
  } catch {
    throw cancelled(signal?.reason); // nothing else ends it early
  }
}
