// Whoever may not come in, or stay, reads why on a page of its own.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { PHONE, accessible, at, comeIn, here, launch, linkInto, person, shot } from './people.mjs';
import { start } from './server.mjs';

let server;
let browser;

before(async () => {
  server = await start('--heartbeat-interval', '500ms', '--heartbeat-timeout', '2s', '--flush-interval', '100ms', '--reconnect-grace', '500ms');
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

/** The page says this, in these words, without a fault. */
async function reads(page, code, title, detail) {
  await at(page, 'problem-title').waitFor();
  const said = await Promise.all(['problem-code', 'problem-title', 'problem-detail'].map((name) => at(page, name).textContent()));
  assert.deepEqual(said, [code, title, detail]);
  assert.equal(await page.title(), `${title} · Rollcall`);
  assert.ok(await at(page, 'problem-title').evaluate((heading) => heading === document.activeElement), 'whoever cannot see it is taken to it');
  await accessible(page, code);
  await shot(page, `refused-${code}`);
  assert.deepEqual(page.errors, []);
}

/** Links that are refused: what makes them so, and what is read. */
const LINKS = [
  ['forged', async () => `${server.origin}/join/nonsense`, 'invite_not_found', 'This link leads nowhere', 'This invitation link is not valid.'],
  ['revoked', async () => {
    const { url, inviteId } = await linkInto(server, 'revoked');
    await fetch(`${server.origin}/v1/invites/${inviteId}`, { method: 'DELETE' });
    return url;
  }, 'invite_revoked', 'This link was taken back', /revoked/],
  ['used up', async () => {
    const { url, token } = await linkInto(server, 'used-up', {}, { max_uses: 1 });
    const other = await person(browser);
    await comeIn(other, url, 'First');
    assert.ok(token);
    return url;
  }, 'invite_used_up', 'This link has been used', /used/],
  ['into a room that is full', async () => {
    const { url } = await linkInto(server, 'full', { max_participants: 1 });
    await comeIn(await person(browser), url, 'First');
    return url;
  }, 'room_full', 'This room is full', /full/],
  ['into a room that was idle for too long', async () => {
    const { url } = await linkInto(server, 'idle', { idle_timeout_seconds: 1 });
    for (;;) {
      const { expired } = await (await fetch(`${server.origin}/v1/rooms/idle/expiry`)).json();
      if (expired) return url;
    }
  }, 'invite_expired', 'This link has run out', /^This invitation link has expired\. Rooms become inactive after 1 second of no activity\.$/],
];

for (const [what, make, code, title, detail] of LINKS) {
  test(`a link ${what}`, { timeout: 60_000 }, async () => {
    const url = await make();
    const guest = await person(browser, code === 'invite_expired' ? PHONE : {});
    await guest.goto(url);
    await at(guest, 'problem-detail').waitFor();
    const said = await at(guest, 'problem-detail').textContent();
    if (detail instanceof RegExp) assert.match(said, detail);
    await reads(guest, code, title, detail instanceof RegExp ? said : detail);
    await at(guest, 'home').click();
    await at(guest, 'make-room').waitFor();
  });
}

test('removed while inside', { timeout: 60_000 }, async () => {
  const { url } = await linkInto(server, 'removed');
  const guest = await person(browser);
  await comeIn(guest, url, 'Eve');
  const id = await here(guest, 'Eve').getAttribute('data-member-id');
  await fetch(`${server.origin}/v1/rooms/removed/participants/${id}`, { method: 'DELETE' });
  await reads(guest, 'removed', 'You were asked to leave', 'You were removed from this room.');
});

test('the room is closed while inside', { timeout: 60_000 }, async () => {
  const { url } = await linkInto(server, 'closed');
  const guest = await person(browser);
  await comeIn(guest, url, 'Eve');
  await fetch(`${server.origin}/v1/rooms/closed`, { method: 'DELETE' });
  await reads(guest, 'room_closed', 'This room was closed', 'This room was closed.');
});

test('left, and back in', { timeout: 60_000 }, async () => {
  const { url } = await linkInto(server, 'left');
  const guest = await person(browser);
  await comeIn(guest, url, 'Eve');
  await at(guest, 'leave').click();
  await reads(guest, 'left', 'You left', 'Your seat is free. The link brings you back.');
  await at(guest, 'retry').click();
  await here(guest, 'Eve').waitFor();
});

test('a server that is busy is asked again by itself', { timeout: 60_000 }, async () => {
  const { url } = await linkInto(server, 'busy');
  const guest = await person(browser);
  let isBusy = true;
  // The one answer that no server gives on demand.
  await guest.route('**/v1/connect?*', (route) => (isBusy
    ? route.fulfill({ status: 503, contentType: 'application/problem+json', body: JSON.stringify({ status: 503, code: 'overloaded', detail: 'The server is busy. Please try again in a moment.', retry_after_ms: 1_500 }) })
    : route.continue()));
  await guest.goto(url);
  await at(guest, 'retry').filter({ hasText: /Try again \(0:0\d\)/ }).waitFor();
  await shot(guest, 'refused-overloaded');
  isBusy = false;
  await at(guest, 'name').waitFor();
});

test('whoever waits at the door outlives the server', { timeout: 60_000 }, async (t) => {
  const brief = await start();
  t.after(() => brief.stop());
  const { url } = await linkInto(brief, 'patience');
  const guest = await person(browser);
  await guest.route('**/v1/connect?*', (route) => route.fulfill({ status: 503, contentType: 'application/problem+json', body: JSON.stringify({ status: 503, code: 'draining', detail: 'The server is going away.', retry_after_ms: 500 }) }), { times: 1 });
  await guest.goto(url);
  await at(guest, 'problem-title').filter({ hasText: 'Back in a moment' }).waitFor();
  await brief.restart(() => at(guest, 'problem-title').filter({ hasText: 'Nobody answers' }).waitFor());
  await at(guest, 'name').waitFor();
});
