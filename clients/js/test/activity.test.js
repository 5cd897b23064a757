// Whether somebody is there.

import assert from 'node:assert/strict';
import { HOUR, MINUTE, scripted } from './harness.js';

const statuses = (world) => world.socket.heard('update').map(({ status }) => status);

/** Time passes on a connection that lives. */
async function pass(world, milliseconds) {
  for (let left = milliseconds; left > 0; left -= 1000) {
    await world.tick(Math.min(1000, left));
    world.socket.ack();
  }
}

scripted('idle after five minutes without input, active again with it', async (world) => {
  await world.enter();
  await pass(world, 5 * MINUTE - 1);
  assert.deepEqual(statuses(world), []);
  await pass(world, 1);
  assert.deepEqual(statuses(world), ['idle']);
  for (const type of ['pointermove', 'keydown', 'wheel', 'touchstart', 'pointerdown', 'scroll']) world.fire(type);
  assert.deepEqual(statuses(world), ['idle', 'active']);
});

scripted('input puts it off', async (world) => {
  await world.enter({ idleAfter: 10_000 });
  for (let times = 0; times < 5; times += 1) {
    await pass(world, 9000);
    world.fire('pointermove');
  }
  assert.deepEqual(statuses(world), []);
  await pass(world, 10_000);
  assert.deepEqual(statuses(world), ['idle']);
});

scripted('idle a minute after the page was hidden, active when it is seen', async (world) => {
  await world.enter();
  world.see(false);
  await pass(world, MINUTE - 1);
  assert.deepEqual(statuses(world), []);
  await pass(world, 1);
  assert.deepEqual(statuses(world), ['idle']);
  world.see(true);
  assert.deepEqual(statuses(world), ['idle', 'active']);
});

scripted('who is away does not come back by a screen that goes dark', async (world) => {
  await world.enter();
  await pass(world, 5 * MINUTE);
  world.see(false);
  await pass(world, 10 * MINUTE);
  assert.deepEqual(statuses(world), ['idle']);
  world.see(true);
  assert.deepEqual(statuses(world), ['idle', 'active']);
});

scripted('a page that is hidden from the start', async (world) => {
  world.document.hidden = true;
  await world.enter();
  await pass(world, MINUTE);
  assert.deepEqual(statuses(world), ['idle']);
});

scripted('false for a hidden page is like a page that is seen', async (world) => {
  await world.enter({ idleAfterHidden: false, idleAfter: 2 * MINUTE });
  world.see(false);
  await pass(world, 2 * MINUTE - 1);
  assert.deepEqual(statuses(world), []);
  await pass(world, 1);
  assert.deepEqual(statuses(world), ['idle']);
});

for (const never of [false, Infinity]) {
  scripted(`${never} is never`, async (world) => {
    await world.enter({ idleAfter: never, idleAfterHidden: never });
    world.see(false);
    let timers = 0;
    const { setTimeout } = globalThis;
    globalThis.setTimeout = (...args) => { timers += 1; return setTimeout(...args); };
    await pass(world, 10_000);
    globalThis.setTimeout = setTimeout;
    assert.deepEqual(statuses(world), []);
    assert.ok(timers < 5, `${timers} timers for nothing`);
  });
}

scripted('a status of one\'s own stays until auto', async (world) => {
  const room = await world.enter({ idleAfter: 10_000, status: 'idle' });
  assert.deepEqual(statuses(world), ['idle']);
  world.fire('keydown');
  world.see(true);
  assert.deepEqual(statuses(world), ['idle']);
  room.setStatus('active');
  await pass(world, 20_000);
  assert.deepEqual(statuses(world), ['idle', 'active']);
  room.setStatus('auto');
  await pass(world, 10_000);
  assert.deepEqual(statuses(world), ['idle', 'active', 'idle']);
});

scripted('without a page everybody is active', async (world) => {
  world.global('document', undefined);
  await world.enter({ idleAfter: 1000 });
  await pass(world, 10_000);
  assert.deepEqual(statuses(world), []);
});

scripted('a room that was left looks at nobody', async (world) => {
  const room = await world.enter();
  room.leave();
  room.setStatus('auto');
  assert.equal(world.clock.countTimers(), 0);
  await world.tick(HOUR);
});
