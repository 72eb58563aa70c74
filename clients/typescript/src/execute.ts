/**
 * The Execute multiplexer: operations of any number of sessions on one stream.
 *
 * Whatever waits when the stream is free goes into one batch; there is no timer. A stream that breaks is replaced, and
 * what it had not answered is sent again, in order: every operation carries a request_id or is harmless to repeat.
 */

import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { create, toBinary } from "@bufbuild/protobuf";
import { WireType } from "@bufbuild/protobuf/wire";
import type { Duplex, DuplexListener } from "./channel.js";
import { whenAborted } from "./channel.js";
import { cancelled, connectionLost, deadlineExceeded, errorFromStatus, RestanteError } from "./errors.js";
import type { ExecuteRequest, ExecuteResponse, OperationResult } from "./gen/restante/v1/batch_pb.js";
import { ExecuteRequestSchema, OperationSchema } from "./gen/restante/v1/batch_pb.js";
import { mayRepeat, now, Pauses } from "./retry.js";
import { operationCase, responseOf, type Unary } from "./methods.js";
import { Queue, Queued, Slots } from "./queue.js";

/** Operations of one request message, at most. */
export const MAX_BATCH_OPERATIONS = 256;
/** Octets of one request message, at most. */
export const MAX_BATCH_OCTETS = 1 << 20;
/** Operations of one stream without an answer, at most: the server stops reading at 1024. */
export const MAX_IN_FLIGHT = 1_000;
/** Operations of one session without an answer, at most: the server refuses further ones. */
export const MAX_SESSION_IN_FLIGHT = 64;

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1_000;
const GRACE_MS = 1_000; // the server answers in time; the alarm is for when it cannot
const FRAME_OCTETS = 8; // the most that its place in a request, and its id, add to an operation
const OPERATIONS_FIELD = ExecuteRequestSchema.field.operations.number;
const OPERATION_ID_TAG = (OperationSchema.field.operationId.number << 3) | WireType.Varint;

/** Opens an Execute call. `fresh` asks for another connection, since the last one drained. */
export type OpenExecute = (
  fresh: boolean,
  listener: DuplexListener<ExecuteResponse>,
) => Duplex<ExecuteRequest>;

/** What one operation may say beside its request. */
export interface OperationOptions {
  /** Whose it is: operations of one lane are sent in order, and a bounded number at once. */
  readonly lane?: object;
  /** The session's token; empty or absent: the connection's own identity. */
  readonly token?: Uint8Array;
  /** Milliseconds until DEADLINE_EXCEEDED; default 30 seconds. */
  readonly timeoutMs?: number;
  /** May begin before earlier operations of the session have been answered. */
  readonly independent?: boolean | undefined;
  /** Aborting it gives the operation up, at the server too. */
  readonly signal?: AbortSignal | undefined;
}

/** An operation that has no answer yet. */
class Waiting extends Queued<Waiting> {
  readonly octets: Uint8Array; // of the Operation, all but its operation_id
  readonly lane: Lane;
  readonly mayRepeat: (cause: RestanteError) => boolean;
  readonly settle: (result: OperationResult | RestanteError) => void;
  readonly since = now();
  readonly order: number;
  settled = false;
  stream: Stream | undefined; // that carries it,
  slot = 0; // and where there

  constructor(
    order: number,
    octets: Uint8Array,
    lane: Lane,
    mayRepeat: Waiting["mayRepeat"],
    settle: Waiting["settle"],
  ) {
    super();
    this.order = order;
    this.octets = octets;
    this.lane = lane;
    this.mayRepeat = mayRepeat;
    this.settle = settle;
  }
}

/** Operations of one session, or of none: those have no order among them, and no bound of their own. */
class Lane {
  readonly waiting = new Queue<Waiting>();
  readonly ordered: boolean;
  flying = 0;
  stream: Stream | undefined; // where those are that fly

  constructor(ordered: boolean) {
    this.ordered = ordered;
  }

  /** Whether the next may go by this stream: order holds only while all that flies is on one. */
  mayUse(stream: Stream): boolean {
    const held = this.ordered && this.flying > 0 && (this.flying >= MAX_SESSION_IN_FLIGHT || this.stream !== stream);
    return !this.waiting.empty && !held;
  }
}

/** One Execute call. */
class Stream {
  readonly flying = new Slots<Waiting>(); // an operation's id is its place, counted from 1
  readonly cancelIds: bigint[] = [];
  call!: Duplex<ExecuteRequest>;
  usable = true; // new operations may be sent on it
  writing = false;
  scheduled = false;
  ended = false;
}

/** Runs operations for a whole process. */
export class Multiplexer {
  readonly #open: OpenExecute;
  readonly #patienceMs: number;
  readonly #lanes = new WeakMap<object, Lane>();
  readonly #anonymous = new Lane(false);
  readonly #ready = new Set<Lane>(); // lanes with something to send, each taking its turn
  readonly #streams = new Set<Stream>();
  readonly #pauses = new Pauses(FIRST_PAUSE_MS, LONGEST_PAUSE_MS);
  #current: Stream | undefined;
  #drained = false;
  #awaySince: number | undefined;
  #reopening: NodeJS.Timeout | undefined;
  #last = 0;
  #closed = false;

  /**
   * `patienceMs`: how long an operation waits for a server that is away before it fails with UNAVAILABLE; default 5
   * seconds.
   */
  constructor(open: OpenExecute, options: { readonly patienceMs?: number } = {}) {
    this.#open = open;
    this.#patienceMs = options.patienceMs ?? 5_000;
  }

  /**
   * The response to one operation. Throws the reason for which it failed, DEADLINE_EXCEEDED, CANCELLED, UNAVAILABLE.
   * A request that no batch may hold is not sent: it is RESOURCE_EXHAUSTED, or `tooLarge` answers it.
   */
  async execute<I extends DescMessage, O extends DescMessage>(
    method: Unary<I, O>,
    request: MessageShape<I>,
    options: OperationOptions = {},
    tooLarge: () => Promise<MessageShape<O>> = refuseTooLarge,
  ): Promise<MessageShape<O>> {
    const place = operationCase(method);
    if (place === undefined) {
      throw new TypeError(`${method.name} is no operation of a batch`);
    }
    const timeoutMs = options.timeoutMs ?? 30_000;
    if (timeoutMs <= 0) {
      throw deadlineExceeded();
    }
    const octets = encodedOperation(place, request, timeoutMs, options);
    if (octets.length + FRAME_OCTETS > MAX_BATCH_OCTETS) {
      return tooLarge();
    }
    const result = await this.#run(octets, timeoutMs, options, (cause) => mayRepeat(method, request, cause));
    if (result.status !== undefined) {
      throw errorFromStatus(result.status);
    }
    const response = responseOf(result, place);
    if (response === undefined) {
      throw new RestanteError(`The server answered ${method.name} with something else.`, { code: "INTERNAL" });
    }
    return response as MessageShape<O>;
  }

  /** End every stream; what has not been answered fails with UNAVAILABLE. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#reopening);
    for (const stream of [...this.#streams]) {
      stream.call.cancel();
      this.#lost(stream, connectionLost("The connection was closed."));
    }
    for (const lane of [...this.#ready]) {
      this.#refuse(lane, connectionLost("The connection was closed."), () => false);
    }
  }

  #run(
    octets: Uint8Array,
    timeoutMs: number,
    options: OperationOptions,
    mayBeRepeated: (cause: RestanteError) => boolean,
  ): Promise<OperationResult> {
    const { signal } = options;
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(cancelled(signal.reason));
        return;
      }
      if (this.#closed) {
        reject(connectionLost("The connection was closed."));
        return;
      }
      let alarm: NodeJS.Timeout | undefined;
      let forget = (): void => undefined;
      const settle = (result: OperationResult | RestanteError): void => {
        if (waiting.settled) {
          return;
        }
        waiting.settled = true;
        clearTimeout(alarm);
        forget();
        if (result instanceof RestanteError) {
          reject(result);
        } else {
          resolve(result);
        }
      };
      const waiting = new Waiting(++this.#last, octets, this.#lane(options), mayBeRepeated, settle);
      const expire = (): void => this.#giveUp(waiting, deadlineExceeded());
      alarm = setTimeout(() => {
        if (waiting.stream === undefined) {
          expire();
        } else {
          alarm = setTimeout(expire, GRACE_MS);
        }
      }, timeoutMs);
      forget = whenAborted(signal, () => this.#giveUp(waiting, cancelled(signal?.reason)));
      waiting.lane.waiting.push(waiting);
      this.#wake(waiting.lane);
    });
  }

  #lane(options: OperationOptions): Lane {
    if (options.lane === undefined || options.token === undefined || options.token.length === 0) {
      return this.#anonymous;
    }
    let lane = this.#lanes.get(options.lane);
    if (lane === undefined) {
      lane = new Lane(true);
      this.#lanes.set(options.lane, lane);
    }
    return lane;
  }

  /** Nobody waits for this any more. */
  #giveUp(waiting: Waiting, why: RestanteError): void {
    if (waiting.settled) {
      return;
    }
    waiting.settle(why);
    if (!waiting.lane.waiting.remove(waiting) && waiting.stream !== undefined) {
      waiting.stream.cancelIds.push(BigInt(waiting.slot + 1)); // it counts until the server answers
      this.#schedule(waiting.stream);
    }
  }

  /** Something may be sent. */
  #wake(lane: Lane): void {
    if (lane.waiting.empty) {
      return;
    }
    this.#ready.add(lane);
    if (this.#reopening !== undefined) {
      return; // the server is away; its turn comes
    }
    if (this.#current === undefined) {
      this.#begin();
    }
    if (this.#current !== undefined) {
      this.#schedule(this.#current);
    }
  }

  #begin(): void {
    const stream = new Stream();
    this.#streams.add(stream);
    this.#current = stream;
    stream.call = this.#open(this.#drained, {
      message: (response) => this.#receive(stream, response),
      ended: (error) => this.#lost(stream, error ?? connectionLost("The server ended the stream.")),
    });
    this.#drained = false;
  }

  /** Send after everything else of this turn has been put into the queue. */
  #schedule(stream: Stream): void {
    if (!stream.scheduled && !stream.writing) {
      stream.scheduled = true;
      process.nextTick(() => {
        stream.scheduled = false;
        this.#flush(stream);
      });
    }
  }

  #flush(stream: Stream): void {
    if (stream.writing || stream.ended) {
      return;
    }
    const request = this.#collect(stream);
    if (request !== undefined) {
      stream.writing = true;
      stream.call.write(request, () => {
        stream.writing = false;
        this.#flush(stream);
      });
    } else if (!stream.usable && stream.flying.size === 0) {
      stream.ended = true;
      this.#streams.delete(stream);
      stream.call.end();
    }
  }

  /** The next batch: an operation of each lane in turn, as long as the bounds allow. */
  #collect(stream: Stream): ExecuteRequest | undefined {
    const places: { no: number; wireType: WireType; data: Uint8Array }[] = [];
    let octets = 0;
    while (stream.usable && places.length < MAX_BATCH_OPERATIONS && stream.flying.size < MAX_IN_FLIGHT) {
      const next = this.#next(stream);
      if (next === undefined || (places.length > 0 && octets + next.octets.length + FRAME_OCTETS > MAX_BATCH_OCTETS)) {
        break;
      }
      this.#takeOff(next, stream);
      octets += next.octets.length + FRAME_OCTETS;
      const data = framed(next.octets, next.slot + 1);
      places.push({ no: OPERATIONS_FIELD, wireType: WireType.LengthDelimited, data });
    }
    if (places.length === 0 && stream.cancelIds.length === 0) {
      return undefined;
    }
    const request = create(ExecuteRequestSchema, { cancelOperationIds: stream.cancelIds.splice(0) });
    request.$unknown = places; // operations that are encoded already, and so go out as they are
    return request;
  }

  #takeOff(waiting: Waiting, stream: Stream): void {
    const { lane } = waiting;
    lane.waiting.remove(waiting);
    lane.flying += 1;
    lane.stream = waiting.stream = stream;
    waiting.slot = stream.flying.put(waiting);
    if (lane.waiting.empty) {
      this.#ready.delete(lane);
    } else if (this.#ready.size > 1) {
      this.#ready.delete(lane);
      this.#ready.add(lane); // behind the others
    }
  }

  /** The first operation of the first lane that may use the stream. */
  #next(stream: Stream): Waiting | undefined {
    for (const lane of this.#ready) {
      if (lane.mayUse(stream)) {
        return lane.waiting.first;
      }
      // It cannot send now; the answer that changes this puts it back.
      this.#ready.delete(lane);
    }
    return undefined;
  }

  #receive(stream: Stream, response: ExecuteResponse): void {
    this.#awaySince = undefined;
    this.#pauses.reset();
    for (const result of response.results) {
      const waiting = stream.flying.take(Number(result.operationId) - 1);
      if (waiting !== undefined) {
        this.#landed(waiting);
        waiting.settle(result);
      }
    }
    if (response.draining) {
      stream.usable = false;
      if (this.#current === stream) {
        this.#current = undefined;
        this.#drained = true;
      }
    }
    if (this.#ready.size > 0 && this.#current === undefined && this.#reopening === undefined) {
      this.#begin();
    }
    if (this.#current !== undefined) {
      this.#schedule(this.#current);
    }
    if (!stream.usable) {
      this.#schedule(stream);
    }
  }

  #landed(waiting: Waiting): void {
    const { lane } = waiting;
    lane.flying -= 1;
    waiting.stream = undefined;
    if (!lane.waiting.empty) {
      this.#ready.add(lane);
    }
  }

  /** A stream is gone: what it carried waits again, before the rest of its lane, or fails. */
  #lost(stream: Stream, cause: RestanteError): void {
    stream.ended = true;
    stream.usable = false;
    this.#streams.delete(stream);
    const carried = stream.flying.drain().sort((one, other) => one.order - other.order);
    const lanes = new Map<Lane, Waiting[]>();
    for (const waiting of carried) {
      waiting.lane.flying -= 1;
      lanes.set(waiting.lane, [...(lanes.get(waiting.lane) ?? []), waiting]);
    }
    for (const [lane, again] of lanes) {
      for (const waiting of [...again.filter((one) => !one.settled), ...lane.waiting.drain()]) {
        lane.waiting.push(waiting);
      }
      this.#ready.add(lane);
    }
    if (this.#current === stream) {
      this.#current = undefined;
    }
    if (this.#current === undefined) {
      this.#awaySince ??= now();
    }
    const pauseMs = this.#current === undefined ? this.#pauses.next(cause.retrySeconds) : 0;
    const mayWait = (one: Waiting) => (one.stream !== stream || one.mayRepeat(cause)) && this.#isPatient(one, pauseMs);
    for (const lane of [...this.#ready]) {
      this.#refuse(lane, cause, mayWait);
    }
    for (const waiting of carried) {
      waiting.stream = undefined;
    }
    if (this.#current !== undefined) {
      this.#schedule(this.#current);
    } else if (this.#ready.size > 0) {
      this.#reopenIn(pauseMs);
    }
  }

  /** Fail what waits in a lane, but for what may wait on. */
  #refuse(lane: Lane, cause: RestanteError, mayWait: (waiting: Waiting) => boolean): void {
    for (const waiting of lane.waiting.drain()) {
      if (mayWait(waiting)) {
        lane.waiting.push(waiting);
      } else {
        waiting.settle(cause);
      }
    }
    if (lane.waiting.empty) {
      this.#ready.delete(lane);
    }
  }

  /** Whether an operation waits so much longer for a server that is away. */
  #isPatient(waiting: Waiting, pauseMs: number): boolean {
    return !this.#closed && now() + pauseMs - Math.max(this.#awaySince ?? 0, waiting.since) < this.#patienceMs;
  }

  #reopenIn(pauseMs: number): void {
    this.#reopening ??= setTimeout(() => {
      this.#reopening = undefined;
      for (const lane of [...this.#ready]) {
        this.#wake(lane);
      }
    }, pauseMs);
  }
}

async function refuseTooLarge(): Promise<never> {
  throw new RestanteError("The request is too large for a batch.", { code: "RESOURCE_EXHAUSTED" });
}

/** An operation as it stands in a request, behind the tag: its length, and its octets with its id put before them. */
function framed(octets: Uint8Array, id: number): Uint8Array {
  const idOctets = varintLength(id);
  const length = 1 + idOctets + octets.length;
  const data = Buffer.allocUnsafe(varintLength(length) + length);
  let at = putVarint(data, 0, length);
  data[at++] = OPERATION_ID_TAG;
  at = putVarint(data, at, id);
  data.set(octets, at);
  return data;
}

function varintLength(value: number): number {
  return value < 1 << 7 ? 1 : value < 1 << 14 ? 2 : value < 1 << 21 ? 3 : 4;
}

function putVarint(data: Uint8Array, at: number, value: number): number {
  for (; value > 0x7f; value >>>= 7) {
    data[at++] = (value & 0x7f) | 0x80;
  }
  data[at++] = value;
  return at;
}

function encodedOperation(
  place: string,
  request: unknown,
  timeoutMs: number,
  options: OperationOptions,
): Uint8Array {
  const operation = create(OperationSchema);
  operation.timeoutMilliseconds = Math.min(Math.max(1, Math.trunc(timeoutMs)), 0x7fffffff);
  operation.independent = options.independent ?? false;
  operation.sessionToken = options.token ?? operation.sessionToken;
  operation.request = { case: place, value: request } as typeof operation.request;
  return toBinary(OperationSchema, operation);
}
