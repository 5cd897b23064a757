// What comes before the upgrade: browsers hide why, and the same address asked again says it.

import assert from 'node:assert/strict';
import { RefusedError } from '../client.js';
import { golden, HOUR, INVITE, jwt, scripted } from './harness.js';

const PROBLEMS = golden('problem-codes');
const problem = (code, change = {}) => ({ ...PROBLEMS.find((row) => row.code === code), detail: `About ${code}.`, ...change });
const isPassing = ({ status }) => status === 408 || status === 429 || status >= 500;

async function refused(world, body, options, headers) {
  world.answer(body.status, body, headers);
  const room = world.join(options);
  await world.tick();
  world.socket.end();
  await world.tick();
  return room;
}

/** A room that was entered and lost its connection, and whose resume is answered with this, once. */
async function resumeRefused(world, body) {
  const room = await world.enter();
  world.socket.end(1006);
  await world.next();
  world.answerOnce(body.status, body);
  world.socket.end();
  return room;
}

for (const row of PROBLEMS.filter(isPassing)) {
  scripted(`${row.code} passes`, async (world) => {
    const room = await refused(world, problem(row.code, { retry_after_ms: 7000 }), {}, { 'retry-after': '9' });
    assert.equal(room.connection, 'connecting');
    assert.ok(room.problem instanceof RefusedError);
    assert.deepEqual([room.problem.code, room.problem.status, room.problem.isPassing], [row.code, row.status, true]);
    assert.equal(room.retryAt, world.clock.now + 7000);
    assert.equal(await world.next(), 7000);
    assert.equal(room.problem.code, row.code);
    world.socket.welcome();
    assert.deepEqual([room.connection, room.problem, room.retryAt], ['open', null, null]);
    assert.deepEqual(room.told('refused'), []);
  });
}

for (const row of PROBLEMS.filter((row) => !isPassing(row))) {
  scripted(`${row.code} is the end`, async (world) => {
    const room = await refused(world, problem(row.code));
    assert.equal(await world.next(), null);
    assert.equal(room.connection, 'closed');
    const told = room.told('refused');
    assert.equal(told.length, 1);
    const [{ code, status, detail, message, retryAfter }] = told;
    assert.deepEqual({ code, status, detail, message, retryAfter }, {
      code: row.code, status: row.status, detail: `About ${row.code}.`, message: `About ${row.code}.`, retryAfter: undefined,
    });
    await assert.rejects(room.opened, told[0]);
  });
}

for (const [name, change, headers, wait] of [
  ['retry_after_ms before Retry-After', { retry_after_ms: 1500 }, { 'retry-after': '9' }, 1500],
  ['Retry-After where there is nothing better', {}, { 'retry-after': '9' }, 9000],
  ['its own back-off where nothing is said', {}, {}, 500],
  ['its own back-off for a Retry-After that is no number', {}, { 'retry-after': 'Tue, 24 Nov 2026 10:00:00 GMT' }, 500],
]) {
  scripted(`waits ${name}`, async (world) => {
    await refused(world, problem('rate_limited', change), {}, headers);
    assert.equal(await world.next(), wait);
  });
}

scripted('asks the address of the socket, without the cache', async (world) => {
  await refused(world, problem('room_full'), { name: 'Ada', client: 'c'.repeat(16) });
  const [{ url, headers, cache }] = world.asked;
  assert.equal(url.href, `https://presence.example/v1/connect?invite=INVITE&name=Ada&client=${'c'.repeat(16)}`);
  assert.equal(world.socket.url.href, url.href.replace('https:', 'wss:'));
  assert.deepEqual(headers, {});
  assert.equal(cache, 'no-store');
});

scripted('asks with a token in a header', async (world) => {
  const token = jwt({ sub: 'ada' });
  await refused(world, problem('room_forbidden'), { token, room: 'lobby' });
  assert.equal(world.asked[0].url.href, 'https://presence.example/v1/connect?room=lobby');
  assert.deepEqual(world.asked[0].headers, { authorization: `Bearer ${token}` });
});

scripted('a resume that is refused with 401 tries the first credential, once', async (world) => {
  world.answer(401, problem('credential_invalid'));
  const room = await resumeRefused(world, problem('credential_invalid'));
  assert.equal(await world.next(), 0);
  assert.equal(world.asked[0].url.searchParams.get('resume'), 'r1.seat');
  assert.equal(world.sockets[1].url.searchParams.get('resume'), null);
  assert.deepEqual(world.socket.protocols, ['rollcall.v1']);
  assert.equal(world.socket.url.searchParams.get('invite'), 'INVITE');
  world.socket.end();
  assert.equal(await world.next(), null);
  assert.equal(room.problem.code, 'credential_invalid');
});

for (const [resumed, invited] of [['room_not_found', 'invite_expired'], ['room_expired', 'invite_expired']]) {
  scripted(`a resume that is refused with ${resumed} has the link say what became of it`, async (world) => {
    world.answer(410, problem(invited));
    const room = await resumeRefused(world, problem(resumed));
    assert.equal(await world.next(), 0);
    world.socket.end();
    assert.equal(await world.next(), null);
    assert.deepEqual(room.told('refused').map(({ code }) => code), [invited]);
    assert.deepEqual(world.asked.map(({ url }) => url.searchParams.has('resume')), [true, false]);
  });
}

scripted('who was removed does not come back as somebody new', async (world) => {
  const room = await resumeRefused(world, problem('removed'));
  assert.equal(await world.next(), null);
  assert.deepEqual(room.told('refused').map(({ code }) => code), ['removed']);
  assert.equal(world.asked.length, 1);
});

scripted('401 has getToken asked once more', async (world) => {
  const reasons = [];
  const getToken = ({ reason }) => jwt({ sub: 'ada', call: reasons.push(reason) });
  const room = await refused(world, problem('credential_expired'), { getToken });
  assert.equal(world.sockets.length, 2);
  assert.notEqual(world.sockets[0].protocols[1], world.sockets[1].protocols[1]);
  world.socket.end();
  assert.equal(await world.next(), null);
  assert.deepEqual(reasons, ['join', 'expired']);
  assert.equal(room.problem.code, 'credential_expired');
});

scripted('admitted but no socket: upgrade_missing, and it goes on', async (world) => {
  world.answer(200, { verdict: 'admit', room: golden('server/welcome').room });
  const room = world.join();
  await world.tick();
  for (const wait of [500, 1000]) {
    world.socket.end();
    await world.tick();
    assert.deepEqual([room.problem.code, room.problem.status], ['upgrade_missing', 0]);
    assert.equal(await world.next(), wait);
  }
});

const NO_VERDICT = {
  'no network': [() => { throw new TypeError('Failed to fetch'); }],
  'a proxy\'s page': [502, '<html>Bad gateway</html>'],
  'a proxy\'s final-looking page': [403, '<html>Forbidden</html>'],
  'a stranger\'s JSON': [404, { error: 'not found' }],
  'a problem with another status': [403, problem('rate_limited')],
  'a stranger\'s null': [200, null],
};

for (const [name, answer] of Object.entries(NO_VERDICT)) {
  scripted(`${name} is no verdict`, async (world) => {
    world.answer(...answer);
    const room = world.join();
    await world.tick();
    for (const wait of [500, 1000, 2000]) {
      world.socket.end();
      await world.tick();
      assert.deepEqual([room.problem.code, room.problem.status, room.problem.isPassing], ['unreachable', 0, true]);
      assert.equal(await world.next(), wait);
    }
    world.socket.welcome();
    assert.equal(room.connection, 'open');
  });
}

scripted('a verdict that never comes is not waited for', async (world) => {
  world.answer(() => new Promise(() => {}));
  const room = world.join();
  await world.tick();
  world.socket.end();
  await world.tick(10_000);
  assert.equal(room.problem.code, 'unreachable');
});

scripted('leaving while the verdict is out ends the request', async (world) => {
  world.answer(() => new Promise(() => {}));
  const room = world.join();
  await world.tick();
  world.socket.end();
  room.leave();
  assert.ok(world.asked[0].signal.aborted);
  assert.deepEqual(room.told('refused'), []);
});

const NO_TOKEN = {
  throws: () => { throw new Error('backend down'); },
  rejects: async () => { throw new Error('backend down'); },
  'returns nothing': async () => undefined,
};

for (const [name, getToken] of Object.entries(NO_TOKEN)) {
  scripted(`getToken that ${name} is asked again later`, async (world) => {
    let isDown = true;
    const reasons = [];
    const room = world.join({ getToken: (why) => {
      reasons.push(why.reason);
      assert.ok(why.signal instanceof AbortSignal);
      return isDown ? getToken() : jwt({ sub: 'ada' });
    } });
    await world.tick();
    assert.deepEqual([room.problem.code, room.problem.status], ['token_unavailable', 0]);
    assert.equal(world.sockets.length, 0);
    isDown = false;
    assert.equal(await world.next(), 500);
    assert.deepEqual(reasons, ['join', 'join']);
  });
}

scripted('getToken that never answers is given 30 s, then asked again', async (world) => {
  const signals = [];
  const room = world.join({ getToken: ({ signal }) => {
    signals.push(signal);
    return signals.length > 1 ? jwt({ sub: 'ada' }) : new Promise(() => {});
  } });
  await world.tick(29_999);
  assert.equal(room.problem, null);
  await world.tick(1);
  assert.equal(room.problem.code, 'token_unavailable');
  assert.ok(signals[0].aborted);
  assert.equal(await world.next(), 500);
  assert.equal(world.sockets.length, 1);
});

scripted('getToken may refuse', async (world) => {
  const refusal = new RefusedError({ code: 'signed_out', status: 403, detail: 'Sign in first.' });
  const room = world.join({ getToken: async () => { throw refusal; } });
  await world.tick(HOUR);
  assert.equal(world.sockets.length, 0);
  assert.deepEqual(room.told('refused'), [refusal]);
});

scripted('getToken may ask to wait', async (world) => {
  const refusal = new RefusedError({ code: 'busy', status: 503, detail: 'Later.', retry_after_ms: 4000 });
  let calls = 0;
  world.join({ getToken: async () => { if (!calls++) throw refusal; return jwt({ sub: 'ada' }); } });
  assert.equal(await world.next(), 4000);
});

scripted('a token that cannot be sent is refused', async (world) => {
  const room = world.join({ url: INVITE.url, invite: undefined, token: 'with a space' });
  await world.tick(HOUR);
  assert.deepEqual([room.problem.code, room.connection], ['bad_request', 'closed']);
});
