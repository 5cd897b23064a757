// What goes out: one's own state and status, and what is said to others.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compose, merge } from '../client/outbox.js';
import { member, scripted, seeded } from './harness.js';

const states = (socket) => socket.heard('update').map(({ state }) => state).filter(Boolean);
const said = (socket) => socket.heard('broadcast');

/** What the server has after these patches. */
const applied = (socket, state = {}) => states(socket).reduce(merge, state);

async function back(world, change) {
  world.socket.end(1006);
  await world.next();
  world.socket.welcome(change);
}

scripted('the first state is the first update, and sent again to a new seat', async (world) => {
  await world.enter({ state: { color: 'red' } });
  assert.deepEqual(world.socket.sent, [{ type: 'update', state: { color: 'red' } }]);
  await back(world, { resumed: false });
  assert.deepEqual(world.socket.sent, [{ type: 'update', state: { color: 'red' } }]);
});

scripted('a new seat is told all of it, as it is by now', async (world) => {
  const room = await world.enter({ state: { color: 'red', page: 1 } });
  room.update({ page: 2, x: { y: 1 } });
  await world.tick(1000);
  room.update({ color: null });
  world.socket.end(1006);
  room.update({ x: { z: 2 } });
  await world.next();
  world.socket.welcome();
  assert.deepEqual(applied(world.socket), { page: 2, x: { y: 1, z: 2 } });
});

scripted('after a resume only what nobody has confirmed is sent again', async (world) => {
  const room = await world.enter();
  room.update({ a: 1 });
  await world.tick(30_000);
  world.socket.ack();
  room.update({ b: 2 });
  await world.tick(100);
  await back(world, { resumed: true });
  assert.deepEqual(states(world.socket), [{ b: 2 }]);
  await world.tick(30_000);
  world.socket.ack();
  await back(world, { resumed: true });
  assert.deepEqual(states(world.socket), []);
});

scripted('an answer confirms what went before its own heartbeat, not before a later one', async (world) => {
  const room = await world.enter();
  room.retry();
  room.update({ a: 1 });
  room.retry();
  world.socket.ack();
  room.update({ b: 2 });
  await world.tick(100);
  await back(world, { resumed: true });
  assert.deepEqual(applied(world.socket), { a: 1, b: 2 });
});

scripted('each answer belongs to one heartbeat', async (world) => {
  const room = await world.enter();
  room.retry();
  room.retry();
  world.socket.ack();
  room.update({ a: 1 });
  room.retry();
  world.socket.ack();
  await back(world, { resumed: true });
  assert.deepEqual(applied(world.socket), { a: 1 });
});

scripted('what is sent again fits what the server takes at once', async (world) => {
  const room = await world.enter();
  for (let count = 0; count < 300; count += 1) {
    room.update({ count });
    await world.tick(60);
  }
  await back(world, { resumed: true });
  assert.ok(world.socket.sent.length <= 50, `${world.socket.sent.length} messages at once`);
  assert.equal(applied(world.socket).count, 299);
});

scripted('nor is anything lost that does not go into one patch', async (world) => {
  const room = await world.enter();
  world.socket.end(1006);
  // A field that is an object now and none then: what merges into it differs.
  for (let count = 0; count < 150; count += 1) room.update({ sel: count % 2 ? { from: count } : null, page: count });
  await world.next();
  world.socket.welcome({ resumed: true });
  assert.ok(world.socket.sent.length <= 50, `${world.socket.sent.length} messages at once`);
  await world.tick(10_000);
  assert.deepEqual(applied(world.socket), { sel: { from: 149 }, page: 149 });
});

scripted('what was deleted meanwhile is deleted of a seat that another connection held', async (world) => {
  const room = await world.enter({ state: { page: 1, typing: true } });
  world.socket.end(1006);
  room.update({ typing: null });
  await world.next();
  const state = { page: 1, typing: true };
  world.socket.welcome({ resumed: false, members: [member('me', { state })] });
  assert.deepEqual(applied(world.socket, state), { page: 1 });
});

scripted('updates within the interval are one', async (world) => {
  const room = await world.enter({ updateInterval: 200 });
  room.update({ a: 1 });
  room.update({ a: 2, b: { c: 1 } });
  room.update({ b: { d: 2 } });
  await world.tick(199);
  assert.deepEqual(states(world.socket), [{ a: 1 }]);
  await world.tick(1);
  assert.deepEqual(states(world.socket), [{ a: 1 }, { a: 2, b: { c: 1, d: 2 } }]);
});

scripted('a patch is what it was when it was given', async (world) => {
  const room = await world.enter();
  room.update({ first: true });
  const patch = { x: { y: 1 } };
  room.update(patch);
  patch.x.y = 2;
  await world.tick(100);
  assert.deepEqual(applied(world.socket), { first: true, x: { y: 1 } });
});

scripted('a field without a value is no field', async (world) => {
  const room = await world.enter();
  room.update({ first: true });
  room.update({ x: 1 });
  room.update({ x: undefined, y: 2 });
  await world.tick(100);
  assert.deepEqual(applied(world.socket), { first: true, x: 1, y: 2 });
});

scripted('a date is the text that JSON makes of it, to a new seat as well', async (world) => {
  const room = await world.enter();
  room.update({ since: new Date(0) });
  await back(world, { resumed: false });
  assert.deepEqual(applied(world.socket), { since: '1970-01-01T00:00:00.000Z' });
});

scripted('what another connection of the same participant set is kept', async (world) => {
  const room = await world.enter({ state: { mine: 1 } });
  world.socket.say({ type: 'presence', seq: 42, occupancy: 2, updated: [{ id: 'me', state: { mine: 1, theirs: 2 } }] });
  room.update({ mine: 3 });
  await world.tick(100);
  await back(world, { resumed: false });
  assert.deepEqual(states(world.socket), [{ mine: 3, theirs: 2 }]);
});

scripted('so is what a sync says of it', async (world) => {
  await world.enter({ state: { mine: 1 } });
  await world.tick(30_000);
  world.socket.ack();
  const members = [member('me', { state: { mine: 1, theirs: 2 } })];
  world.socket.say({ type: 'sync', seq: 50, roster: 'full', occupancy: 1, members });
  await back(world, { resumed: false });
  assert.deepEqual(states(world.socket), [{ mine: 1, theirs: 2 }]);
});

test('one patch of two does what both do', () => {
  const random = seeded(7);
  const value = (depth) => {
    const kind = random.below(depth ? 5 : 3);
    if (kind < 1) return null;
    if (kind < 3) return random.pick([1, 'a', [1], false]);
    return object(depth - 1);
  };
  const object = (depth) => Object.fromEntries(Array.from({ length: random.below(4) }, () => [random.pick(['a', 'b', 'c']), value(depth)]));
  let composed = 0;
  for (let round = 0; round < 5000; round += 1) {
    const [state, first, second] = [merge({}, object(3)), object(3), object(3)];
    const before = structuredClone([state, first, second]);
    const both = compose(first, second);
    if (both) {
      composed += 1;
      assert.deepEqual(merge(state, both), merge(merge(state, first), second), JSON.stringify([state, first, second]));
    }
    assert.deepEqual([state, first, second], before, 'nothing given is changed');
  }
  assert.ok(composed > 3000);
});

for (const [target, patch, result] of [
  [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
  [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
  [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
  [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
  [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
  [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
  [['a'], { a: 1 }, { a: 1 }],
  [{}, { a: { b: { c: null } } }, { a: { b: {} } }],
]) {
  test(`${JSON.stringify(target)} with ${JSON.stringify(patch)}`, () => assert.deepEqual(merge(target, patch), result));
}

scripted('a status is sent at once, and again to every connection', async (world) => {
  const room = await world.enter({ status: 'idle' });
  assert.deepEqual(world.socket.sent, [{ type: 'update', status: 'idle' }]);
  await back(world, { resumed: true });
  assert.deepEqual(world.socket.sent, [{ type: 'update', status: 'idle' }]);
  room.setStatus('active');
  assert.deepEqual(world.socket.sent.at(-1), { type: 'update', status: 'active' });
  await back(world, { resumed: true });
  assert.deepEqual(world.socket.sent, []);
});

scripted('throttled, the latest of an event wins', async (world) => {
  const room = await world.enter();
  for (let x = 0; x < 5; x += 1) assert.equal(room.broadcast('cursor', x, { throttle: 100 }), true);
  assert.equal(room.broadcast('cheer', 'hey', { to: ['ada'] }), true);
  await world.tick(99);
  assert.deepEqual(said(world.socket).map(({ event, payload }) => [event, payload]), [['cursor', 0], ['cheer', 'hey']]);
  assert.deepEqual(said(world.socket)[1].to, ['ada']);
  await world.tick(1);
  assert.deepEqual(said(world.socket)[2].payload, 4);
  await world.tick(1000);
  assert.equal(said(world.socket).length, 3);
});

scripted('broadcasts come in bursts of 50, then 25 a second', async (world) => {
  const room = await world.enter();
  for (let count = 0; count < 90; count += 1) room.broadcast(`event ${count}`);
  assert.equal(said(world.socket).length, 50);
  await world.tick(1000);
  assert.equal(said(world.socket).length, 75);
  await world.tick(1000);
  assert.equal(said(world.socket).length, 90);
});

scripted('without a throttle every one is sent, in order', async (world) => {
  const room = await world.enter();
  const lines = Array.from({ length: 90 }, (_, line) => line);
  for (const line of lines) assert.equal(room.broadcast('chat', line), true);
  await world.tick(2_000);
  assert.deepEqual(said(world.socket).map(({ payload }) => payload), lines);
});

scripted('more than may wait is refused, and goes again later', async (world) => {
  const room = await world.enter();
  const taken = Array.from({ length: 200 }, (_, line) => room.broadcast('chat', line)).filter(Boolean);
  assert.equal(taken.length, 150, '50 at once, 100 that wait');
  await world.tick(1_000);
  assert.equal(room.broadcast('chat', 'again'), true);
  await world.tick(10_000);
  assert.equal(said(world.socket).length, 151);
});

scripted('places of what was throttled are free again', async (world) => {
  const room = await world.enter();
  for (let id = 0; id < 100; id += 1) assert.equal(room.broadcast('wave', id, { to: [`p${id}`], throttle: 5_000 }), true);
  assert.equal(room.broadcast('chat'), false);
  await world.tick(10_000);
  assert.equal(room.broadcast('chat'), true);
});

scripted('what waits is what it was when it was given, and what JSON cannot say is thrown', async (world) => {
  const room = await world.enter();
  const point = { x: 1 };
  room.broadcast('cursor', point, { throttle: 100 });
  point.x = 2;
  room.broadcast('cursor', point, { throttle: 100 });
  point.x = 3;
  await world.tick(100);
  assert.deepEqual(said(world.socket).map(({ payload }) => payload.x), [1, 2]);
  assert.throws(() => room.broadcast('big', 1n, { throttle: 100 }), TypeError);
  room.update({ a: 1 });
  await world.tick(100);
  assert.deepEqual(states(world.socket), [{ a: 1 }]);
});

scripted('nothing is said while it is not open, and nothing later', async (world) => {
  const room = world.join();
  assert.equal(room.broadcast('early'), false);
  await world.tick();
  world.socket.welcome();
  room.broadcast('cursor', 1, { throttle: 5000 });
  assert.equal(room.broadcast('cursor', 2, { throttle: 5000 }), true);
  world.socket.end(1006);
  assert.equal(room.broadcast('between'), false);
  await world.next();
  world.socket.welcome({ resumed: true });
  room.broadcast('after');
  await world.tick(10_000);
  assert.deepEqual(said(world.socket).map(({ event }) => event), ['after']);
  room.leave();
  assert.equal(room.broadcast('late'), false);
});

scripted('whoever hears of the roster may speak', async (world) => {
  const room = world.join();
  const results = [];
  room.on('sync', () => results.push(room.broadcast('hello')));
  await world.tick();
  world.socket.welcome();
  assert.deepEqual(results, [true]);
});

scripted('leaving on the first roster leaves', async (world) => {
  const room = world.join();
  room.on('sync', () => room.leave());
  await world.tick();
  world.socket.welcome();
  assert.equal(room.broadcast('late', 1, { throttle: 100 }), false);
  assert.deepEqual(world.socket.sent.at(-1), { type: 'leave' });
});
