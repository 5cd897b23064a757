// What the client does after a close, for every code.

import assert from 'node:assert/strict';
import { RefusedError } from '../client.js';
import { golden, HOUR, jwt, scripted } from './harness.js';

const CODES = [...golden('close-codes'), ...golden('other-close-codes')];
const BACK_OFF = CODES.filter(({ comes_back }) => comes_back === 'back_off').map(({ code }) => code);
const NEVER = CODES.filter(({ comes_back }) => comes_back === 'never');
const NAMES = {
  1002: 'protocol_error', 1007: 'not_utf8', 1009: 'too_large', 4400: 'bad_messages', 4403: 'removed', 4404: 'room_closed',
  4410: 'room_expired',
};
const CEILINGS = [500, 1000, 2000, 4000, 8000, 15_000, 15_000];

/** Counts tokens, so that each is known by the call that made it. */
function counter() {
  const reasons = [];
  const getToken = async ({ reason }) => jwt({ sub: 'ada', call: reasons.push(reason) });
  return { reasons, getToken };
}

for (const { code, reason } of NEVER) {
  scripted(`${code} is the end`, async (world) => {
    const room = await world.enter();
    world.socket.end(code, reason);
    await world.tick(HOUR);
    assert.equal(world.sockets.length, 1);
    assert.equal(room.connection, 'closed');
    assert.equal(room.retryAt, null);
    const refused = room.told('refused');
    if (code === 1000) {
      assert.deepEqual(refused, []);
      assert.equal(room.problem, null);
      return;
    }
    assert.equal(refused.length, 1);
    assert.ok(refused[0] instanceof RefusedError);
    assert.equal(refused[0].status, code);
    assert.equal(refused[0].code, NAMES[code] ?? `close_${code}`);
    assert.ok(refused[0].detail);
    assert.equal(room.problem, refused[0]);
  });
}

for (const code of BACK_OFF) {
  scripted(`${code} waits, and comes back to its seat`, async (world) => {
    const room = await world.enter();
    world.socket.end(code);
    assert.equal(room.connection, 'reconnecting');
    assert.equal(room.retryAt, world.clock.now + 500);
    assert.equal(await world.next(), 500);
    assert.deepEqual(world.socket.protocols, ['rollcall.v1', 'rollcall.resume.r1.seat']);
    assert.equal(room.retryAt, null);
    world.socket.welcome({ resumed: true });
    assert.equal(room.connection, 'open');
    assert.deepEqual(room.told('refused'), []);
  });
}

scripted('the ceiling doubles up to 15 s', async (world) => {
  await world.enter();
  const waits = [];
  for (const _ of CEILINGS) {
    if (world.socket.readyState === 0) world.socket.open();
    world.socket.end(1006);
    waits.push(await world.next());
  }
  assert.deepEqual(waits, CEILINGS);
});

scripted('a wait is any part of its ceiling', async (world) => {
  await world.enter();
  for (const [index, part] of [0, 0.25, 0.5, 0.9].entries()) {
    world.random = part;
    world.socket.open();
    world.socket.end(4503);
    assert.equal(await world.next(), part * CEILINGS[index]);
  }
});

scripted('reconnect.after_ms wins, and does not count as a failure', async (world) => {
  const room = await world.enter();
  for (const after_ms of [0, 1200, 60_000]) {
    world.socket.say({ type: 'reconnect', after_ms });
    world.socket.end(1012, 'restarting');
    assert.equal(room.retryAt, world.clock.now + after_ms);
    assert.equal(await world.next(), after_ms);
    world.socket.welcome({ resumed: true });
  }
  world.socket.end(1012);
  assert.equal(await world.next(), 500);
});

scripted('a wish from the connection before is no wish for this one', async (world) => {
  await world.enter();
  world.socket.say({ type: 'reconnect', after_ms: 5000 });
  world.socket.end(1012);
  await world.next();
  world.socket.welcome({ resumed: true });
  world.socket.end(1006);
  assert.equal(await world.next(), 500);
});

/** A few failures in a row, and then a welcome. */
async function troubled(world) {
  const room = await world.enter();
  for (let failures = 0; failures < 4; failures += 1) {
    if (world.socket.readyState === 0) world.socket.open();
    world.socket.end(1006);
    await world.next();
  }
  world.socket.welcome({ resumed: true });
  return room;
}

scripted('failures are forgotten after a good connection', async (world) => {
  await troubled(world);
  await world.tick(20_000);
  world.socket.end(1006);
  assert.equal(await world.next(), 500);
});

scripted('failures are forgotten when a good connection falls silent', async (world) => {
  await troubled(world);
  for (let heartbeats = 0; heartbeats < 10; heartbeats += 1) {
    await world.tick(30_000);
    world.socket.ack();
  }
  await world.tick(39_999);
  const { length } = world.sockets;
  const start = world.clock.now;
  await world.next();
  assert.equal(world.sockets.length, length + 1);
  assert.ok(world.clock.now - start <= 1 + 500, `came back after ${world.clock.now - start} ms`);
});

scripted('failures are not forgotten after a short one', async (world) => {
  await troubled(world);
  await world.tick(5000);
  world.socket.end(1006);
  assert.equal(await world.next(), 8000);
});

scripted('a handshake that opens without a welcome is not a good connection', async (world) => {
  await world.enter();
  const waits = [];
  for (let failures = 0; failures < 4; failures += 1) {
    if (world.socket.readyState === 0) world.socket.open();
    // Timers are late in browsers, never early.
    if (failures) world.clock.jump(15_010);
    else world.socket.end(1006);
    waits.push(await world.next());
  }
  assert.deepEqual(waits, [500, 1000, 2000, 4000]);
});

scripted('4401 comes back at once with a fresh token', async (world) => {
  const { reasons, getToken } = counter();
  const room = await world.enter({ getToken });
  await world.tick(30_000);
  world.socket.ack();
  world.socket.end(4401, 'token expired');
  assert.equal(await world.next(), 0);
  assert.deepEqual(reasons, ['join', 'expired']);
  assert.deepEqual(world.socket.protocols, ['rollcall.v1', `rollcall.bearer.${jwt({ sub: 'ada', call: 2 })}`]);
  world.socket.welcome();
  assert.equal(room.connection, 'open');
});

scripted('4401 again before a heartbeat was answered is the end', async (world) => {
  const { reasons, getToken } = counter();
  const room = await world.enter({ getToken });
  world.socket.end(4401);
  await world.next();
  world.socket.welcome();
  world.socket.end(4401);
  assert.equal(await world.next(), null);
  assert.equal(room.connection, 'closed');
  assert.deepEqual([room.problem.code, room.problem.status], ['token_expired', 4401]);
  assert.deepEqual(reasons, ['join', 'expired']);
});

scripted('4401 again after an answered heartbeat comes back again', async (world) => {
  const { reasons, getToken } = counter();
  const room = await world.enter({ getToken });
  for (let times = 0; times < 3; times += 1) {
    world.socket.end(4401);
    assert.equal(await world.next(), 0);
    world.socket.welcome();
    await world.tick(30_000);
    world.socket.ack();
  }
  assert.equal(room.connection, 'open');
  assert.deepEqual(reasons, ['join', 'expired', 'expired', 'expired']);
});

for (const [kind, options] of [['an access token', { token: jwt({ sub: 'ada' }) }], ['an invite', {}]]) {
  scripted(`4401 is the end with ${kind}`, async (world) => {
    const room = await world.enter(options);
    world.socket.end(4401, 'token expired');
    assert.equal(await world.next(), null);
    const [refused] = room.told('refused');
    assert.deepEqual([refused.code, refused.status], ['token_expired', 4401]);
  });
}

scripted('a close before the welcome is judged by its code all the same', async (world) => {
  const room = world.join();
  await world.tick();
  world.socket.open();
  world.socket.end(4404, 'room closed');
  assert.equal(await world.next(), null);
  assert.equal(room.problem.code, 'room_closed');
  assert.equal(world.asked.length, 0);
});
