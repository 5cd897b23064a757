// Noticing that nobody answers, and that somebody may answer again.

import assert from 'node:assert/strict';
import { HOUR, golden, scripted } from './harness.js';

const beats = (socket) => socket.heard('heartbeat').length;
const busy = golden('problem-codes').find(({ code }) => code === 'overloaded');

scripted('sends a heartbeat every interval', async (world) => {
  const room = await world.enter();
  for (let count = 1; count <= 5; count += 1) {
    await world.tick(30_000);
    assert.equal(beats(world.socket), count);
    world.socket.ack();
  }
  assert.equal(world.sockets.length, 1);
  assert.equal(room.connection, 'open');
});

for (const interval of [1000, 2000, 5000, 30_000, 120_000]) {
  scripted(`with a heartbeat every ${interval} ms, silence is noticed within 10 s more`, async (world) => {
    await world.enter({}, { heartbeat_interval_ms: interval });
    const dead = world.socket;
    await world.tick(interval + 10_000);
    // 1000 would give the seat away.
    assert.equal(dead.closedWith, 4000);
    if (world.sockets.length === 1) await world.next();
    assert.deepEqual(world.socket.protocols, ['rollcall.v1', 'rollcall.resume.r1.seat']);
  });
}

scripted('whatever arrives answers a heartbeat', async (world) => {
  const room = await world.enter();
  await world.tick(30_000);
  world.socket.say({ type: 'presence', seq: 42, occupancy: 2 });
  await world.tick(29_999);
  assert.equal(room.connection, 'open');
  assert.equal(world.sockets.length, 1);
});

scripted('a timer that fires far too late asks once more', async (world) => {
  const room = await world.enter();
  await world.tick(30_000);
  world.clock.jump(HOUR);
  await world.tick();
  assert.equal(room.connection, 'open');
  world.socket.ack();
  await world.tick(20_000);
  assert.equal(room.connection, 'open');
  assert.equal(world.sockets.length, 1);
});

scripted('and only once more', async (world) => {
  const room = await world.enter();
  await world.tick(30_000);
  world.clock.jump(HOUR);
  await world.tick();
  const asked = beats(world.socket);
  await world.tick(10_000);
  assert.equal(room.connection, 'reconnecting');
  assert.ok(asked >= 2);
  assert.equal(world.sockets[0].closedWith, 4000);
});

/** All that may mean that the network is another one. */
const WAKES = {
  online: (world) => world.fire('online'),
  visibilitychange: (world) => world.see(true),
  pageshow: (world) => world.fire('pageshow', { persisted: true }),
  resume: (world) => world.fire('resume', {}, world.document),
  'retry()': (_, room) => room.retry(),
};

for (const [name, wake] of Object.entries(WAKES)) {
  scripted(`${name} ends a back-off at once`, async (world) => {
    const room = await world.enter();
    world.socket.end(1006);
    wake(world, room);
    await world.tick();
    assert.equal(world.sockets.length, 2);
    assert.equal(room.retryAt, null);
    world.socket.welcome({ resumed: true });
  });

  scripted(`${name} does not cut a wait short that the server asked for`, async (world) => {
    const room = await world.enter();
    world.socket.say({ type: 'reconnect', after_ms: 20_000 });
    world.socket.end(1012);
    await world.tick(5000);
    wake(world, room);
    assert.equal(room.retryAt, world.clock.now + 15_000);
    assert.equal(await world.next(), 15_000);
  });

  scripted(`${name} asks an open connection, and gives it 3 s`, async (world) => {
    const room = await world.enter();
    wake(world, room);
    assert.equal(beats(world.socket), 1);
    await world.tick(2999);
    assert.equal(world.socket.closedWith, null);
    await world.tick(1);
    assert.equal(world.socket.closedWith, 4000);
  });
}

scripted('a wake does nothing while an attempt is under way', async (world) => {
  const room = world.join();
  await world.tick();
  for (const wake of Object.values(WAKES)) wake(world, room);
  await world.tick();
  assert.equal(world.sockets.length, 1);
});

for (const [name, wake] of Object.entries(WAKES)) {
  scripted(`${name} does not wait for an attempt that hangs`, async (world) => {
    const room = world.join();
    await world.tick(3_001);
    wake(world, room);
    await world.tick();
    assert.deepEqual([world.sockets.length, world.sockets[0].closedWith], [2, 4000]);
    wake(world, room);
    await world.tick();
    assert.equal(world.sockets.length, 2, 'the next is given its time');
  });
}

scripted('a wake does not ask the application again, which may be asking a person', async (world) => {
  let calls = 0;
  const room = world.join({ getToken: () => { calls += 1; return new Promise(() => {}); } });
  await world.tick(10_000);
  for (const wake of Object.values(WAKES)) wake(world, room);
  await world.tick();
  assert.equal(calls, 1);
});

scripted('a room that was left does not wake', async (world) => {
  const room = await world.enter();
  room.leave();
  await world.tick(10_000);
  for (const wake of Object.values(WAKES)) wake(world, room);
  assert.equal(await world.next(), null);
});

scripted('a page that is not to be seen does not wake', async (world) => {
  await world.enter();
  world.socket.end(1006);
  world.see(false);
  await world.tick();
  assert.equal(world.sockets.length, 1);
});

scripted('offline asks, and an answer keeps the connection', async (world) => {
  const room = await world.enter();
  world.fire('offline');
  assert.equal(beats(world.socket), 1);
  world.socket.ack();
  await world.tick(10_000);
  assert.equal(room.connection, 'open');
});

scripted('waking again and again does not put off the verdict', async (world) => {
  const room = await world.enter();
  for (let times = 0; times < 3; times += 1) {
    room.retry();
    await world.tick(1000);
  }
  assert.equal(world.socket.closedWith, 4000);
});

scripted('the back/forward cache holds no connection, and coming back takes the seat up again', async (world) => {
  const room = await world.enter();
  world.fire('pagehide', { persisted: true });
  await world.tick();
  assert.equal(world.socket.closedWith, 4000);
  assert.equal(room.connection, 'reconnecting');
  assert.equal(await world.next(HOUR), null);
  world.fire('pageshow', { persisted: true });
  assert.equal(await world.next(), 0);
  assert.deepEqual(world.socket.protocols, ['rollcall.v1', 'rollcall.resume.r1.seat']);
});

scripted('a page that goes for good is left to the browser', async (world) => {
  await world.enter();
  world.fire('pagehide', { persisted: false });
  assert.equal(world.socket.closedWith, null);
});

scripted('the back/forward cache does not cut a wait short that the server asked for', async (world) => {
  const room = world.join();
  await world.tick();
  world.answer(busy.status, { ...busy, detail: 'Busy.', retry_after_ms: 30_000 });
  world.socket.end();
  await world.tick();
  const { retryAt } = room;
  assert.equal(retryAt, world.clock.now + 30_000);
  world.fire('pagehide', { persisted: true });
  await world.tick(1000);
  world.fire('pageshow', { persisted: true });
  await world.next();
  assert.equal(world.clock.now, retryAt);
});

scripted('a wait that is over by the clock is over, whatever became of its timer', async (world) => {
  const room = await world.enter();
  world.socket.say({ type: 'reconnect', after_ms: 60_000 });
  world.socket.end(1012);
  // The machine slept: the clock went on, and timers did not.
  world.clock.setSystemTime(world.clock.now + HOUR);
  room.retry();
  await world.tick();
  assert.equal(world.sockets.length, 2);
});

scripted('a handshake that never answers is given up, and asked about', async (world) => {
  const room = world.join();
  await world.tick(14_999);
  assert.equal(world.socket.closedWith, null);
  await world.tick(1);
  assert.equal(world.sockets[0].closedWith, 4000);
  assert.equal(world.asked.length, 1);
  assert.equal(room.problem.code, 'unreachable');
  assert.equal(await world.next(), 500);
});

scripted('a handshake that opens and says nothing is given up', async (world) => {
  const room = world.join();
  await world.tick();
  world.socket.open();
  await world.tick(15_000);
  assert.equal(world.sockets[0].closedWith, 4000);
  assert.equal(room.connection, 'connecting');
  assert.equal(await world.next(), 500);
});

scripted('what is no message is no harm', async (world) => {
  const room = await world.enter();
  for (const text of ['', 'null', '5', '[]', '{"type":"from_the_future"}', '{']) world.socket.say(text);
  assert.equal(room.connection, 'open');
  assert.equal(room.members.length, 2);
});
