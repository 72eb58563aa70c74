/**
 * Queues that leave nothing behind: what has gone through them keeps nothing else alive. (The tables of a Map or Set
 * that grows and shrinks all the time refer to each other, which costs the garbage collector dearly.)
 */

/** What can wait in one `Queue` at a time. */
export abstract class Queued<T extends Queued<T>> {
  /** Its neighbours, for the queue alone. */
  before: T | undefined;
  after: T | undefined;
  queue: Queue<T> | undefined;
}

/** First in, first out; anything can be taken out wherever it stands. */
export class Queue<T extends Queued<T>> {
  #first: T | undefined;
  #last: T | undefined;

  /** The next one, left where it is. */
  get first(): T | undefined {
    return this.#first;
  }

  /** Whether nothing waits. */
  get empty(): boolean {
    return this.#first === undefined;
  }

  /** Put one behind the others. */
  push(item: T): void {
    item.queue = this;
    item.before = this.#last;
    if (this.#last === undefined) {
      this.#first = item;
    } else {
      this.#last.after = item;
    }
    this.#last = item;
  }

  /** Take one out; whether it was here. */
  remove(item: T): boolean {
    if (item.queue !== this) {
      return false;
    }
    const { before, after } = item;
    if (before === undefined) {
      this.#first = after;
    } else {
      before.after = after;
    }
    if (after === undefined) {
      this.#last = before;
    } else {
      after.before = before;
    }
    item.before = item.after = item.queue = undefined;
    return true;
  }

  /** Take all out, in their order. */
  drain(): T[] {
    const items: T[] = [];
    for (let item = this.#first; item !== undefined; item = this.#first) {
      this.remove(item);
      items.push(item);
    }
    return items;
  }
}

/** Places with small numbers, each given out again when it is free. */
export class Slots<T> {
  readonly #items: (T | undefined)[] = [];
  readonly #free: number[] = [];

  /** How many places are taken. */
  get size(): number {
    return this.#items.length - this.#free.length;
  }

  /** Take a place; its number, from 0 on. */
  put(item: T): number {
    const slot = this.#free.pop() ?? this.#items.length;
    this.#items[slot] = item;
    return slot;
  }

  /** What is in a place. */
  get(slot: number): T | undefined {
    return this.#items[slot];
  }

  /** Give a place back; what was in it. */
  take(slot: number): T | undefined {
    const item = this.#items[slot];
    if (item !== undefined) {
      this.#items[slot] = undefined;
      this.#free.push(slot);
    }
    return item;
  }

  /** Give all places back; what was in them. */
  drain(): T[] {
    this.#free.length = 0;
    return this.#items.splice(0).filter((item) => item !== undefined);
  }
}
