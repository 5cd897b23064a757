// The room as an application sees it.

import assert from 'node:assert/strict';
import { join, RefusedError } from '../client.js';
import { golden, INVITE, jwt, scripted } from './harness.js';

for (const [name, options] of Object.entries({
  'no credential': {},
  'two credentials': { invite: 'a', token: 'b' },
  'three credentials': { invite: 'a', token: 'b', getToken: () => 'c' },
  'an address that is none': { invite: 'a', url: 'nowhere' },
  'a state that is no object': { invite: 'a', state: 'red' },
  'a state that is an array': { invite: 'a', state: ['red'] },
})) {
  scripted(`${name} is a TypeError`, async (world) => {
    assert.throws(() => join({ url: INVITE.url, ...options }), TypeError);
    await world.tick();
    assert.equal(world.sockets.length, 0);
  });
}

scripted('what it is at each stage', async (world) => {
  const room = world.join();
  assert.deepEqual([room.connection, room.id, room.self, room.info, room.problem, room.retryAt], ['connecting', null, null, null, null, null]);
  assert.deepEqual([room.members, room.occupancy, room.roster], [[], 0, 'full']);
  await world.tick();
  world.socket.welcome();
  assert.equal(await room.opened, room);
  assert.deepEqual(room.info, golden('server/welcome').room);
  assert.equal(room.connection, 'open');
  world.socket.end(1006);
  assert.equal(room.connection, 'reconnecting');
  assert.equal(room.members.length, 2, 'what was last known');
  room.leave();
  assert.equal(room.connection, 'closed');
  assert.equal(room.told('connection').at(-1), 'closed');
});

scripted('the roster is there when "open" is told', async (world) => {
  const room = world.join();
  let seen;
  room.on('connection', (state) => { if (state === 'open') seen = room.members.length; });
  await world.tick();
  world.socket.welcome();
  assert.equal(seen, 2);
});

scripted('leaving says so, and closes with 1000', async (world) => {
  const room = await world.enter();
  room.leave();
  room.leave();
  assert.deepEqual(world.socket.sent, [{ type: 'leave' }]);
  assert.equal(world.socket.closedWith, 1000);
  assert.deepEqual(room.told('refused'), []);
  assert.deepEqual(room.told('connection').filter((state) => state === 'closed').length, 1);
});

scripted('leaving while it connects closes with 1000 once it is open', async (world) => {
  const room = world.join();
  await world.tick();
  room.leave();
  await assert.rejects(room.opened, { name: 'AbortError' });
  assert.equal(world.socket.closedWith, null);
  world.socket.open();
  assert.equal(world.socket.closedWith, 1000);
});

scripted('leaving between open and welcome', async (world) => {
  const room = world.join();
  await world.tick();
  world.socket.open();
  room.leave();
  assert.equal(world.socket.closedWith, 1000);
  world.socket.welcome();
  assert.equal(room.connection, 'closed');
});

scripted('leaving while getToken is out', async (world) => {
  let give;
  let signal;
  const room = world.join({ getToken: (why) => { signal = why.signal; return new Promise((resolve) => { give = resolve; }); } });
  room.leave();
  assert.ok(signal.aborted);
  give(jwt({ sub: 'ada' }));
  await world.tick(1000);
  assert.equal(world.sockets.length, 0);
});

scripted('leaving on being told of an attempt makes none', async (world) => {
  let calls = 0;
  const room = await world.enter({ getToken: async () => jwt({ sub: 'ada', call: calls++ }) });
  room.on('connection', () => room.leave());
  world.socket.end(4401);
  assert.equal(await world.next(), null);
  assert.equal(calls, 1, 'nobody is asked for a token that is not needed');
});

scripted('leaving while it waits', async (world) => {
  const room = await world.enter();
  world.socket.end(1006);
  room.leave();
  assert.equal(room.retryAt, null);
  assert.equal(await world.next(), null);
});

scripted('a signal that was aborted before', async (world) => {
  const room = world.join({ signal: AbortSignal.abort() });
  await world.tick(1000);
  assert.equal(room.connection, 'closed');
  assert.equal(world.sockets.length, 0);
  await assert.rejects(room.opened, { name: 'AbortError' });
});

scripted('a signal that is aborted later leaves', async (world) => {
  const controller = new AbortController();
  const room = await world.enter({ signal: controller.signal });
  controller.abort();
  assert.equal(room.connection, 'closed');
  assert.deepEqual(world.socket.sent, [{ type: 'leave' }]);
});

scripted('on() stops by what it returns, or by a signal', async (world) => {
  const room = world.join();
  const heard = [];
  const stop = room.on('sync', () => heard.push('a'));
  const controller = new AbortController();
  room.on('sync', ({ resumed }) => heard.push(resumed), { signal: controller.signal });
  await world.tick();
  world.socket.welcome();
  stop();
  controller.abort();
  world.socket.say({ type: 'sync', seq: 50, roster: 'full', occupancy: 0, members: [] });
  assert.deepEqual(heard, ['a', false]);
});

scripted('tells what it hears', async (world) => {
  const room = await world.enter();
  room.log.length = 0;
  const metadata = { topic: 'coffee' };
  world.socket.say({ ...golden('server/broadcast') });
  world.socket.say({ ...golden('server/error') });
  world.socket.say({ ...golden('server/room_expiring') });
  world.socket.say({ type: 'room', room: { ...room.info, metadata } });
  assert.deepEqual(room.log.map(([type]) => type), ['broadcast', 'error', 'expiring', 'room']);
  assert.equal(room.told('broadcast')[0].event, golden('server/broadcast').event);
  assert.equal(room.told('expiring')[0].reason, 'max_age');
  assert.deepEqual(room.info.metadata, metadata);
});

scripted('a room that is as before is not told again', async (world) => {
  const room = await world.enter();
  world.socket.end(1006);
  await world.next();
  world.socket.welcome({ resumed: true });
  assert.equal(room.told('room').length, 1);
});

scripted('now() is the server\'s', async (world) => {
  const server_time = new Date(world.clock.now + 90_000).toISOString();
  const room = await world.enter({}, { server_time });
  await world.tick(1000);
  assert.equal(room.now(), world.clock.now + 90_000);
});

for (const patch of [null, undefined, 'x', 5, []]) {
  scripted(`${JSON.stringify(patch)} is no patch`, async (world) => {
    const room = await world.enter();
    assert.throws(() => room.update(patch), TypeError);
  });
}

scripted('a token that expires is renewed on the way', async (world) => {
  const reasons = [];
  const room = await world.enter({ getToken: async ({ reason }) => jwt({ sub: 'ada', call: reasons.push(reason) }) });
  world.socket.say(golden('server/token_expiring'));
  await world.tick();
  assert.deepEqual(world.socket.sent, [{ type: 'token', token: jwt({ sub: 'ada', call: 2 }) }]);
  assert.deepEqual(reasons, ['join', 'expiring']);
  assert.deepEqual(room.told('expiring'), []);
});

scripted('a renewal that fails is no end', async (world) => {
  let calls = 0;
  const room = await world.enter({ getToken: async () => { if (calls++) throw new Error('down'); return jwt({ sub: 'ada' }); } });
  world.socket.say(golden('server/token_expiring'));
  await world.tick();
  assert.equal(room.connection, 'open');
  assert.deepEqual(world.socket.sent, []);
});

scripted('without getToken the application is told', async (world) => {
  const room = await world.enter({ token: jwt({ sub: 'ada' }) });
  const { expires_at } = golden('server/token_expiring');
  world.socket.say(golden('server/token_expiring'));
  assert.deepEqual(room.told('expiring'), [{ expires_at, reason: 'token' }]);
});

/** Reads until the end. */
async function read(room) {
  const events = [];
  try {
    for await (const event of room) events.push(event);
    return { events };
  } catch (error) {
    return { events, error };
  }
}

scripted('iteration ends when the room is left', async (world) => {
  const room = await world.enter();
  const reading = read(room);
  world.socket.say(golden('server/broadcast'));
  await world.tick();
  room.leave();
  const { events, error } = await reading;
  assert.equal(error, undefined);
  assert.deepEqual(events.map(({ type }) => type), ['broadcast', 'connection']);
  assert.deepEqual(await read(room), { events: [] });
});

scripted('iteration throws when the room is refused', async (world) => {
  const room = await world.enter();
  const reading = read(room);
  world.socket.end(4404);
  const { events, error } = await reading;
  assert.ok(error instanceof RefusedError);
  assert.equal(error.status, 4404);
  assert.deepEqual(events.map(({ type }) => type), ['connection', 'refused']);
  assert.equal((await read(room)).error, error);
});

scripted('who falls behind loses what waits, and gets one sync', async (world) => {
  const room = await world.enter();
  const reader = room[Symbol.asyncIterator]();
  const first = reader.next();
  for (let payload = 0; payload < 1500; payload += 1) world.socket.say({ type: 'broadcast', from: null, event: 'n', payload });
  const rest = [(await first).value];
  room.leave();
  for await (const event of reader) rest.push(event);
  assert.equal(rest.filter(({ type }) => type === 'sync').length, 1);
  assert.ok(rest.length < 1000);
  assert.equal(rest.filter(({ type }) => type === 'broadcast').at(-1).detail.payload, 1499);
});

scripted('a reader that stops is forgotten', async (world) => {
  const room = await world.enter();
  const reading = (async () => { for await (const event of room) return event; })();
  world.socket.say(golden('server/broadcast'));
  assert.equal((await reading).type, 'broadcast');
});
