// What outlives a reload, and for whom.

import assert from 'node:assert/strict';
import { ask } from '../client.js';
import { golden, INVITE, jwt, scripted } from './harness.js';

const resumed = ({ protocols }) => protocols.find((entry) => entry.startsWith('rollcall.resume.'));
const SEAT = 'rollcall.resume.r1.seat';

/** The page goes without leaving: the next room is that of a reload. */
async function reloaded(world, first, second) {
  await world.enter(first);
  world.join(second);
  await world.tick();
  return world.socket;
}

for (const [name, first, second, isSame] of [
  ['the same invite', {}, {}, true],
  ['the same invite and another name', { name: 'Ada' }, { name: 'Bob' }, true],
  ['another invite', {}, { invite: 'OTHER' }, false],
  ['another client', { client: 'a'.repeat(16) }, { client: 'b'.repeat(16) }, false],
  ['another server', {}, { url: 'https://other.example' }, false],
  ['a fresh token of the same sub', { token: jwt({ sub: 'ada', exp: 1 }) }, { token: jwt({ sub: 'ada', exp: 2 }) }, true],
  ['getToken for the same sub', { token: jwt({ sub: 'ada', exp: 1 }) }, { getToken: async () => jwt({ sub: 'ada', exp: 2 }) }, true],
  ['another sub', { token: jwt({ sub: 'ada' }) }, { token: jwt({ sub: 'bob' }) }, false],
  ['another room', { token: jwt({ sub: 'ada', room: '*' }), room: 'a' }, { token: jwt({ sub: 'ada', room: '*' }), room: 'b' }, false],
  ['a token for another room', { token: jwt({ sub: 'ada', room: 'a' }) }, { token: jwt({ sub: 'ada', room: 'b' }) }, false],
  ['a token that cannot be read', { token: 'opaque' }, { token: 'opaque' }, false],
  ['storage: false before', { storage: false }, {}, false],
  ['storage: false after', {}, { storage: false }, false],
]) {
  scripted(`${isSame ? 'takes its seat up' : 'makes a new one'}: ${name}`, async (world) => {
    assert.equal(resumed(await reloaded(world, first, second)), isSame ? SEAT : undefined);
  });
}

scripted('the next room resumes with the latest seat', async (world) => {
  await world.enter();
  world.socket.end(1006);
  await world.next();
  world.socket.welcome({ resumed: true, self: { participant_id: 'me', connection_id: 'c2', resume_token: 'r1.later' } });
  world.join();
  await world.tick();
  assert.equal(resumed(world.socket), 'rollcall.resume.r1.later');
});

scripted('an address keeps its path, and loses the rest', async (world) => {
  world.join({ url: 'https://app.example/presence/?x=1#y' });
  await world.tick();
  assert.equal(`${world.socket.url.origin}${world.socket.url.pathname}`, 'wss://app.example/presence/v1/connect');
  assert.equal(world.socket.url.searchParams.get('x'), null);
});

scripted('without an address it is the page\'s', async (world) => {
  world.join({ url: undefined });
  await world.tick();
  assert.equal(world.socket.url.origin, 'wss://page.example');
});

scripted('leaving forgets the seat, and not the guest', async (world) => {
  const room = await world.enter();
  const client = world.socket.url.searchParams.get('client');
  room.leave();
  world.join();
  await world.tick();
  assert.equal(resumed(world.socket), undefined);
  assert.equal(world.socket.url.searchParams.get('client'), client);
  assert.ok(client.length >= 16 && client.length <= 64);
});

scripted('a refused seat is forgotten', async (world) => {
  await world.enter();
  world.socket.end(4403);
  world.join();
  await world.tick();
  assert.equal(resumed(world.socket), undefined);
});

scripted('what one gives as client is not kept', async (world) => {
  await world.enter({ client: 'x'.repeat(20) });
  assert.equal(world.socket.url.searchParams.get('client'), 'x'.repeat(20));
  assert.equal(localStorage.entries.size, 0);
});

scripted('storage: false keeps nothing, and is the same guest as long as the room lives', async (world) => {
  await world.enter({ storage: false });
  const client = world.socket.url.searchParams.get('client');
  world.socket.end(1006);
  await world.next();
  assert.equal(resumed(world.socket), SEAT, 'a lost connection is no reload');
  world.answer(401, { ...golden('problem-codes').find(({ code }) => code === 'credential_invalid'), detail: '' });
  world.socket.end();
  await world.next();
  assert.equal(world.socket.url.searchParams.get('client'), client);
  assert.equal(localStorage.entries.size + sessionStorage.entries.size, 0);
});

const DENIED = {
  'not there': undefined,
  full: { getItem: () => null, setItem() { throw new DOMException('full', 'QuotaExceededError'); }, removeItem() {} },
  forbidden: new Proxy({}, { get() { throw new DOMException('no', 'SecurityError'); } }),
};
for (const [name, storage] of Object.entries(DENIED)) {
  scripted(`storage that is ${name} is done without`, async (world) => {
    world.global('localStorage', storage);
    world.global('sessionStorage', storage);
    const room = await world.enter();
    assert.equal(room.connection, 'open');
    room.leave();
    assert.equal(room.connection, 'closed');
  });
}

scripted('ask takes the verdict and enters nothing', async (world) => {
  const { room } = golden('server/welcome');
  world.answer(200, { verdict: 'admit', room });
  assert.deepEqual(await ask(INVITE), room);
  assert.equal(world.sockets.length, 0);
});

scripted('ask rejects with the refusal', async (world) => {
  world.answer(410, { ...golden('problem-codes').find(({ code }) => code === 'invite_expired'), detail: 'Too late.' });
  await assert.rejects(ask(INVITE), { name: 'RefusedError', code: 'invite_expired', status: 410, message: 'Too late.' });
  world.answer(() => { throw new TypeError('Failed to fetch'); });
  await assert.rejects(ask(INVITE), { code: 'unreachable', status: 0 });
});

for (const seatIs of ['credential_invalid', 'room_not_found', 'room_expired']) {
  scripted(`ask does without a seat that is gone: ${seatIs}`, async (world) => {
    await world.enter();
    const { room } = golden('server/welcome');
    const problem = golden('problem-codes').find(({ code }) => code === seatIs);
    world.answerOnce(problem.status, { ...problem, detail: '' });
    world.answer(200, { verdict: 'admit', room });
    assert.deepEqual(await ask(INVITE), room);
    assert.deepEqual(world.asked.map(({ url }) => [url.searchParams.has('resume'), url.searchParams.has('invite')]), [[true, false], [false, true]]);
  });
}

scripted('ask that is given up while the application makes a token', async () => {
  const controller = new AbortController();
  const asked = ask({ url: INVITE.url, getToken: () => new Promise(() => {}), signal: controller.signal });
  controller.abort();
  await assert.rejects(asked, { name: 'AbortError' });
});

scripted('ask can be given up', async (world) => {
  world.answer(() => new Promise(() => {}));
  const controller = new AbortController();
  const asking = ask({ ...INVITE, signal: controller.signal });
  controller.abort();
  await assert.rejects(asking, { name: 'AbortError' });
});

scripted('ask wants exactly one credential', async () => {
  await assert.rejects(ask({ url: INVITE.url }), TypeError);
});
