// The dashboard: every figure is the server's, every action does what it says, and nobody without the key sees anything.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import WebSocket from 'ws';
import { PHONE, accessible, at, launch, person, shot } from './people.mjs';
import { start } from './server.mjs';

const KEY = 'the-key-of-the-operator';
const auth = { authorization: `Bearer ${KEY}` };

let server;
let browser;

before(async () => {
  server = await start('--api-key', KEY, '--heartbeat-interval', '500ms', '--heartbeat-timeout', '2s', '--flush-interval', '100ms', '--reconnect-grace', '500ms');
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

const ask = async (path, method = 'GET') => {
  const response = await fetch(server.origin + path, { method, headers: auth });
  return { status: response.status, body: await response.json().catch(() => null) };
};

/** A room with somebody in it, who hears how it ends for them. */
async function occupied(id, name) {
  await server.post('/v1/rooms', { id }, auth);
  const { token, id: invite } = await server.post(`/v1/rooms/${id}/invites`, {}, auth);
  return { invite, token, guest: await enter(token, name) };
}

async function enter(token, name) {
  const query = new URLSearchParams({ invite: token, name, client: `browser-of-${name}-0123456789` });
  const socket = new WebSocket(`${server.origin.replace('http', 'ws')}/v1/connect?${query}`, ['rollcall.v1']);
  const closed = once(socket, 'close').then(([code]) => code);
  const refused = once(socket, 'unexpected-response').then(([, { statusCode }]) => statusCode);
  socket.on('error', () => {});
  const outcome = await Promise.race([once(socket, 'open').then(() => 101), refused]);
  return { socket, closed, outcome };
}

/** The operator, with the key. */
async function operator(path, options) {
  const page = await person(browser, options);
  await page.goto(`${server.origin}/admin${path}`);
  await at(page, 'key').fill(KEY);
  await at(page, 'enter').click();
  await page.locator('main[data-state="loaded"]').waitFor();
  return page;
}

const row = (page, table, text) => at(page, table).locator('tbody tr', { hasText: text });

test('nothing without the key', { timeout: 60_000 }, async () => {
  const page = await person(browser);
  await page.goto(`${server.origin}/admin`);
  await at(page, 'key').waitFor();
  await accessible(page, 'the question for the key');
  await at(page, 'key').fill('some other key');
  await at(page, 'enter').click();
  await at(page, 'trouble').filter({ hasText: 'This key is not the right one.' }).waitFor();
  await at(page, 'key').fill(KEY);
  await at(page, 'enter').click();
  await at(page, 'figure-connections').filter({ hasText: /^\d+$/ }).waitFor();
  await page.reload();
  await at(page, 'figure-connections').filter({ hasText: /^\d+$/ }).waitFor();
  await at(page, 'forget').click();
  await at(page, 'key').waitFor();
  await page.reload();
  await at(page, 'key').waitFor();
  assert.deepEqual(page.errors, []);
});

test('in dev mode no key is asked for', { timeout: 60_000 }, async (t) => {
  const open = await start();
  t.after(() => open.stop());
  const page = await person(browser);
  await page.goto(`${open.origin}/admin`);
  await at(page, 'figure-connections').filter({ hasText: '0' }).waitFor();
});

test('figures and charts move', { timeout: 60_000 }, async () => {
  const { guest } = await occupied('figures', 'Ada');
  const page = await operator('');
  const { body: stats } = await ask('/v1/admin/stats');
  assert.equal(await at(page, 'figure-connections').textContent(), String(stats.connections));
  // The first sample is taken after five seconds, and drawn at the look after it.
  const chart = page.locator('figure', { hasText: 'Joins and leaves' }).locator('svg');
  await page.locator('svg[aria-label*="joins at most"]').waitFor({ timeout: 20_000 });
  const drawn = await chart.evaluate((svg) => [...svg.querySelectorAll('.line, .dot')].filter(({ tagName, points }) => tagName === 'circle' || points.length > 1).length);
  assert.equal(drawn, 3, 'joins, leaves and refusals are to be seen, from the first sample on');
  await chart.focus();
  await page.keyboard.press('ArrowLeft');
  await page.locator('figure', { hasText: 'Joins and leaves' }).locator('.reading', { hasText: /joins \d/ }).waitFor();
  for (const title of ['Connections', 'Heartbeat delay', 'Flush']) await page.locator('figcaption', { hasText: title }).first().waitFor();
  await accessible(page, 'the overview');
  await shot(page, 'dashboard-overview');
  guest.socket.terminate();
  assert.deepEqual(page.errors, []);
});

test('a room is touched, gets a link, and is closed', { timeout: 60_000 }, async () => {
  const { guest } = await occupied('salon', 'Ada');
  const page = await operator('#/rooms');
  await row(page, 'rooms', 'salon').locator('a').click();
  await row(page, 'people', 'Ada').filter({ hasText: 'here' }).waitFor();
  await at(page, 'touch').click();
  await at(page, 'news').filter({ hasText: 'counts as used' }).waitFor();
  await at(page, 'new-invite').click();
  await at(page, 'news').filter({ hasText: '/join/' }).waitFor();
  assert.equal((await ask('/v1/rooms/salon/invites')).body.items.length, 2);
  await accessible(page, 'a room');
  await shot(page, 'dashboard-room');

  await at(page, 'close').click();
  await accessible(page, 'a question');
  await shot(page, 'dashboard-question');
  await at(page, 'cancel').click();
  assert.equal((await ask('/v1/rooms/salon')).status, 200, 'asked, and not done');
  assert.equal(await page.evaluate(() => document.activeElement.dataset.test), 'close', 'the focus is where it was');
  await at(page, 'close').click();
  await at(page, 'confirm').click();
  assert.equal(await guest.closed, 4404);
  await at(page, 'news').filter({ hasText: 'Closed salon.' }).waitFor();
  assert.equal((await ask('/v1/rooms/salon')).status, 404);
  assert.deepEqual(page.errors, []);
});

test('somebody is removed, and let back in', { timeout: 60_000 }, async () => {
  const { token, guest } = await occupied('stage', 'Mallory');
  const page = await operator('#/rooms/stage');
  await at(page, 'remove').click();
  await at(page, 'confirm').click();
  assert.equal(await guest.closed, 4403);
  await row(page, 'people', 'Mallory').filter({ hasText: 'removed' }).waitFor();
  await page.waitForFunction(() => document.activeElement.dataset.test === 'restore');
  assert.equal((await enter(token, 'Mallory')).outcome, 403);
  await at(page, 'restore').click();
  await at(page, 'remove').waitFor();
  const back = await enter(token, 'Mallory');
  assert.equal(back.outcome, 101);

  // Only put out, but the link is gone with it.
  await at(page, 'remove').click();
  await at(page, 'option-kick').check();
  await at(page, 'option-revoke').check();
  await at(page, 'confirm').click();
  assert.equal(await back.closed, 4403);
  await row(page, 'invites', 'revoked').waitFor();
  const { body } = await ask('/v1/rooms/stage/participants');
  assert.deepEqual(body.items.map(({ removed }) => removed), [false]);
  assert.equal((await enter(token, 'Mallory')).outcome, 410);
  assert.deepEqual(page.errors, []);
});

test('no button is replaced or moved under a finger', { timeout: 60_000 }, async (t) => {
  const { token, guest: zoe } = await occupied('moving', 'Zoe');
  const ada = await enter(token, 'Ada');
  // Whoever is heard of last takes turns.
  const beats = [zoe, ada].map(({ socket }, index) => setInterval(() => socket.send('{"type":"heartbeat"}'), 110 + 40 * index));
  t.after(() => beats.forEach(clearInterval));
  const page = await operator('#/rooms/moving');
  const button = await row(page, 'people', 'Ada').locator('button').elementHandle();
  await button.focus();
  const names = () => at(page, 'people').locator('tbody tr td:first-child').allTextContents();
  for (let look = 0; look < 2; look += 1) {
    await page.waitForResponse((response) => response.url().includes('/moving/invites'));
    assert.deepEqual(await names(), ['Ada', 'Zoe']);
    assert.ok(await button.evaluate((element) => element.isConnected && element === document.activeElement));
  }
});

test('whoever is here is shown, however many came before', { timeout: 60_000 }, async () => {
  const { guest } = await occupied('old', 'Mallory');
  const page = await operator('');
  // As of a room in which a thousand others were first.
  await page.route('**/participants?*', (route) => route.fulfill({ json: { items: [], next_cursor: 'more' } }));
  await page.goto(`${server.origin}/admin#/rooms/old`);
  await row(page, 'people', 'Mallory').filter({ hasText: 'here' }).waitFor();
  await page.getByText('These are the first 1000').waitFor();
  await at(page, 'remove').click();
  await at(page, 'confirm').click();
  assert.equal(await guest.closed, 4403);
});

test('what failed is said until something else is done, and looking again says nothing of it', { timeout: 60_000 }, async () => {
  const { guest } = await occupied('failing', 'Ada');
  const page = await operator('#/rooms/failing');
  const away = { status: 503, contentType: 'application/problem+json', body: JSON.stringify({ status: 503, code: 'store_unavailable', detail: 'The store is away.' }) };
  await page.route('**/touch', (route) => route.fulfill(away), { times: 1 });
  await at(page, 'touch').click();
  await at(page, 'failure').filter({ hasText: 'The store is away.' }).waitFor();
  await page.waitForResponse((response) => response.url().includes('/failing/invites'));
  assert.ok(await at(page, 'failure').isVisible());
  await at(page, 'touch').click();
  await at(page, 'news').filter({ hasText: 'counts as used' }).waitFor();
  await at(page, 'failure').waitFor({ state: 'hidden' });

  // A link is shown once: whatever goes wrong afterwards.
  await page.route('**/expiry', (route) => route.fulfill(away));
  await at(page, 'new-invite').click();
  await at(page, 'news').filter({ hasText: '/join/' }).waitFor();
  await at(page, 'trouble').filter({ hasText: 'The store is away.' }).waitFor();
  guest.socket.terminate();
});

test('rooms by the page', { timeout: 60_000 }, async () => {
  const page = await operator('#/rooms');
  for (let number = 0; number < 100; number += 1) await server.post('/v1/rooms', { id: `page-${number}` }, auth);
  await page.reload();
  const shown = () => at(page, 'rooms').locator('tbody tr').count();
  const ends = async () => [await at(page, 'earlier').isDisabled(), await at(page, 'later').isDisabled()];
  await at(page, 'rooms').locator('tbody tr').nth(49).waitFor();
  assert.deepEqual(await ends(), [true, false]);
  while (!(await ends())[1]) {
    const first = await at(page, 'rooms').locator('tbody tr').first().getAttribute('data-key');
    await at(page, 'later').click();
    await page.waitForFunction((key) => document.querySelector('[data-test="rooms"] tbody tr').dataset.key !== key, first);
  }
  assert.ok(await shown() <= 50);
  assert.deepEqual(await ends(), [false, true]);
  await at(page, 'earlier').click();
  await page.waitForFunction(() => !document.querySelector('[data-test="later"]').disabled);
  assert.equal(await shown(), 50);
  assert.deepEqual(page.errors, []);
});

test('a link is revoked', { timeout: 60_000 }, async () => {
  const { token, guest } = await occupied('links', 'Ada');
  const page = await operator('#/rooms/links');
  await at(page, 'revoke').click();
  await at(page, 'confirm').click();
  await row(page, 'invites', 'revoked').waitFor();
  assert.equal((await enter(token, 'Bob')).outcome, 410);
  guest.socket.terminate();
});

test('idle rooms are shown before they are deleted', { timeout: 60_000 }, async () => {
  await server.post('/v1/rooms', { id: 'forgotten', idle_timeout_seconds: 1 }, auth);
  while (!(await ask('/v1/rooms/forgotten/expiry')).body.expired);
  const page = await operator('');
  await at(page, 'reap').click();
  await at(page, 'doomed').filter({ hasText: 'forgotten' }).waitFor();
  assert.equal((await ask('/v1/rooms/forgotten')).status, 200, 'only looked');
  await shot(page, 'dashboard-reap');
  await at(page, 'confirm').click();
  await at(page, 'news').filter({ hasText: /^Deleted 1 room with / }).waitFor();
  assert.equal((await ask('/v1/rooms/forgotten')).status, 404);
  await row(page, 'sweeps', 'deleted').waitFor();
  await at(page, 'reap').click();
  await at(page, 'news').filter({ hasText: 'There is no idle room.' }).waitFor();
  assert.deepEqual(page.errors, []);
});

test('a room that is not there says so; on a phone, by night', { timeout: 60_000 }, async () => {
  const page = await person(browser, { ...PHONE, colorScheme: 'dark' });
  await page.goto(`${server.origin}/admin#/rooms/nowhere`);
  await at(page, 'key').fill(KEY);
  await at(page, 'enter').click();
  await at(page, 'trouble').filter({ hasText: 'Room not found' }).waitFor();
  await page.goto(`${server.origin}/admin/#/rooms/%E0`);
  await at(page, 'trouble').filter({ hasText: 'The id in the address is not valid' }).waitFor();
  await at(page, 'nav-overview').click();
  await page.locator('main[data-state="loaded"]').waitFor();
  await shot(page, 'dashboard-phone-dark');
  await at(page, 'nav-rooms').click();
  await page.locator('main[data-state="loaded"]').waitFor();
  await accessible(page, 'the rooms');
  const width = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(width[0] <= width[1], `nothing sticks out: ${width}`);
});
