// What browsers do to pages: hide them, slow them down, put them aside, stop with the whole machine. Nobody else is to see any of it.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch } from './plain.mjs';
import { start } from './server.mjs';

let server;
let browser;
let elsewhere;

before(async () => {
  server = await start('--heartbeat-interval', '500ms', '--heartbeat-timeout', '2s', '--flush-interval', '1s', '--room-idle-timeout', '5m');
  [browser, elsewhere] = await Promise.all([launch(), launch()]);
});

after(async () => {
  await Promise.all([browser?.stop(), elsewhere?.stop()]);
  await server?.stop();
});

/** Two people in a room: Ada in the browser that things are done to, Bob looking on from another. */
async function meet(id, options = {}) {
  await server.post('/v1/rooms', { id });
  const { token: invite } = await server.post(`/v1/rooms/${id}/invites`);
  const ada = await come(browser, { invite, name: 'Ada', ...options });
  const bob = await come(elsewhere, { invite, name: 'Bob' });
  return { ada, bob, id: await ada.run(() => room.id) };
}

async function come(where, options) {
  // A page with nothing on it but the right to load the client.
  const tab = await where.open(`${server.origin}/client.js`);
  await tab.run(async (options) => {
    const { join } = await import('/client.js');
    globalThis.room = join(options);
    globalThis.seen = [];
    for (const type of ['join', 'leave', 'update', 'connection']) room.on(type, (detail) => seen.push([type, detail.id ?? detail, detail.status]));
    await room.opened;
  }, options);
  return tab;
}

/** Resolves when something was seen, in the past or from now on. */
const sees = (tab, ...what) => tab.run(async (what) => {
  const isIt = (event) => what.every((part, index) => part === event[index]);
  while (!seen.some(isIt)) await new Promise((resolve) => { for (const type of ['join', 'leave', 'update', 'connection']) room.addEventListener(type, resolve, { once: true }); });
}, what);

/** Counts the heartbeats that a page sends from now on. */
const count = (tab) => tab.run(() => {
  globalThis.sent = new EventTarget();
  sent.count = 0;
  const { send } = WebSocket.prototype;
  WebSocket.prototype.send = function (data) {
    if (JSON.parse(data).type === 'heartbeat') sent.count += 1;
    sent.dispatchEvent(new Event('sent'));
    return send.call(this, data);
  };
});

/** Resolves when a page whose heartbeats are counted has sent so many. */
const beats = (tab, count) => tab.run(async (count) => {
  while (sent.count < count) await new Promise((resolve) => sent.addEventListener('sent', resolve, { once: true }));
}, count);

const comings = (tab) => tab.run(() => seen.filter(([type]) => type === 'join' || type === 'leave'));

test('a hidden page, slowed down, stays', { timeout: 90_000 }, async (t) => {
  const { ada, bob, id } = await meet('hidden', { idleAfterHidden: 500 });
  await sees(ada, 'join', await bob.run(() => room.id));
  const cover = await browser.open('about:blank');
  assert.equal(await ada.run(() => document.hidden), true);
  await sees(bob, 'update', id, 'idle');
  await Promise.all([count(ada), count(bob)]);
  // Six heartbeat timeouts.
  await beats(bob, 24);
  const slow = await ada.run(() => sent.count);
  t.diagnostic(`while a page in front sent 24 heartbeats, a hidden one sent ${slow}`);
  assert.ok(slow < 18, `the hidden page was not slowed down: it sent ${slow} heartbeats of 24`);
  assert.equal(await ada.run(() => room.connection), 'open');
  assert.deepEqual(await comings(bob), []);
  await ada.bringToFront();
  await sees(bob, 'update', id, 'active');
  assert.deepEqual(await comings(bob), []);
  assert.deepEqual(await ada.run(() => seen.filter(([type, state]) => type === 'connection' && state !== 'open')), []);
  await cover.close();
});

test('idle without input, and back with it', { timeout: 60_000 }, async () => {
  const { ada, bob, id } = await meet('idle', { idleAfter: 500 });
  await ada.bringToFront();
  await sees(bob, 'update', id, 'idle');
  await ada.send('Input.dispatchMouseEvent', { type: 'mouseMoved', x: 20, y: 20 });
  await sees(bob, 'update', id, 'active');
  assert.deepEqual(await comings(bob), []);
});

test('a page comes back out of the back/forward cache as the same participant', { timeout: 60_000 }, async () => {
  const { ada, bob, id } = await meet('cache');
  await ada.run(() => {
    globalThis.mark = 'the same page';
    addEventListener('pageshow', ({ persisted }) => { globalThis.shown = persisted; });
  });
  await ada.goTo(`${server.origin}/client/room.js`);
  assert.equal(await ada.run(() => globalThis.mark), undefined);
  await ada.back();
  assert.deepEqual(await ada.run(() => [mark, shown]), ['the same page', true]);
  await ada.run(async () => { while (room.connection !== 'open') await new Promise((resolve) => room.addEventListener('connection', resolve, { once: true })); });
  assert.equal(await ada.run(() => room.id), id);
  assert.deepEqual(await ada.run(() => room.members.map(({ name }) => name)), ['Ada', 'Bob']);
  assert.deepEqual(await comings(bob), []);
});

test('a reload is the same participant', { timeout: 60_000 }, async () => {
  await server.post('/v1/rooms', { id: 'reload' });
  const { token: invite } = await server.post('/v1/rooms/reload/invites');
  const bob = await come(elsewhere, { invite, name: 'Bob' });
  const ada = await come(browser, { invite, name: 'Ada', state: { colour: 'red' } });
  const id = await ada.run(() => room.id);
  await sees(bob, 'join', id);
  await ada.goTo(`${server.origin}/client.js`);
  await ada.run(async (invite) => {
    const { join } = await import('/client.js');
    globalThis.room = join({ invite, name: 'Ada' });
    await room.opened;
  }, invite);
  assert.equal(await ada.run(() => room.id), id);
  assert.deepEqual(await ada.run(() => room.self.state), { colour: 'red' });
  assert.deepEqual(await comings(bob), [['join', id, 'active']]);
});

test('a machine that slept comes back by itself', { timeout: 90_000 }, async () => {
  const { ada, bob, id } = await meet('sleep');
  browser.freeze();
  try {
    // The heartbeat timeout and the grace.
    await sees(bob, 'leave', id);
  } finally {
    browser.thaw();
  }
  await sees(bob, 'join', id);
  await sees(ada, 'connection', 'reconnecting');
  await ada.run(async () => { while (room.connection !== 'open') await new Promise((resolve) => room.addEventListener('connection', resolve, { once: true })); });
  assert.equal(await ada.run(() => room.id), id);
});
