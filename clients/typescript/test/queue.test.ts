/** The queues that the multiplexer is made of. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Queue, Queued, Slots } from "../src/queue.js";

class Item extends Queued<Item> {
  readonly name: string;

  constructor(name: string) {
    super();
    this.name = name;
  }
}

test("a queue keeps its order, whichever is taken out", () => {
  for (const taken of ["a", "b", "c"]) {
    const queue = new Queue<Item>();
    const items = ["a", "b", "c"].map((name) => new Item(name));
    items.forEach((item) => queue.push(item));
    const gone = items.find(({ name }) => name === taken);
    assert.ok(gone !== undefined && queue.remove(gone) && !queue.remove(gone));
    assert.ok(gone.before === undefined && gone.after === undefined);
    queue.push(new Item("d"));
    const left = queue.drain().map(({ name }) => name);
    assert.deepEqual(left, ["a", "b", "c", "d"].filter((name) => name !== taken));
    assert.ok(queue.empty && queue.first === undefined);
  }
});

test("an item of one queue is none of another", () => {
  const [queue, other, item] = [new Queue<Item>(), new Queue<Item>(), new Item("a")];
  queue.push(item);
  assert.equal(other.remove(item), false);
  assert.equal(queue.first, item);
});

test("a place is given out again only when it is free", () => {
  const slots = new Slots<string>();
  assert.deepEqual(["a", "b", "c"].map((item) => slots.put(item)), [0, 1, 2]);
  assert.equal(slots.take(1), "b");
  assert.equal(slots.take(1), undefined);
  assert.equal(slots.size, 2);
  assert.equal(slots.put("d"), 1);
  assert.equal(slots.put("e"), 3);
  assert.deepEqual(slots.drain(), ["a", "d", "c", "e"]);
  assert.equal(slots.size, 0);
});
