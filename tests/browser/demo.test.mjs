// Two people in two browsers, through the demo, against the real binary.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { start } from './server.mjs';

const SHOTS = process.env.SCREENSHOTS;
let server;
let browser;

before(async () => {
  server = await start();
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'],
  });
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

/** Somebody with a browser of their own; every error on the page fails the test. */
async function person(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.errors = [];
  page.on('pageerror', (error) => page.errors.push(error.message));
  page.on('console', (message) => {
    const isRefusal = message.text().startsWith('Failed to load resource');
    if (message.type() === 'error' && !isRefusal) page.errors.push(message.text());
  });
  return page;
}

const at = (page, name) => page.locator(`[data-test="${name}"]`);
const here = (page, name) => page.locator('[data-member-id]:not([data-departed])', { hasText: name });
const shot = async (page, name) => { if (SHOTS) await page.screenshot({ path: `${SHOTS}/${name}.png` }); };

async function comeIn(page, link, name) {
  await page.goto(link);
  await at(page, 'name').fill(name);
  await at(page, 'join').click();
  await here(page, name).waitFor();
}

test('two people make a room, see each other, and part', { timeout: 60_000 }, async () => {
  const ada = await person();
  await ada.goto(server.origin);
  await at(ada, 'room-title').fill('Tuesday reading');
  await at(ada, 'make-room').click();
  await at(ada, 'enter-room').waitFor();
  await shot(ada, 'home');
  const link = await at(ada, 'invite-link').inputValue();
  await comeIn(ada, link, 'Ada Lovelace');
  const bob = await person({ viewport: { width: 390, height: 844 }, colorScheme: 'dark', isMobile: true, hasTouch: true });
  await bob.goto(link);
  await at(bob, 'name').waitFor();
  await shot(bob, 'door-phone-dark');
  await comeIn(bob, link, 'Bob');
  await here(ada, 'Bob').waitFor();
  await here(bob, 'Ada Lovelace').waitFor();

  await at(bob, 'mood-🎉').click();
  await here(ada, 'Bob').filter({ hasText: '🎉' }).waitFor();
  await at(bob, 'idle').click();
  await here(ada, 'Bob').filter({ hasText: 'away' }).waitFor();
  await at(bob, 'table').hover({ position: { x: 60, y: 60 } });
  await ada.locator('.cursor', { hasText: 'Bob' }).waitFor();
  await shot(ada, 'room-desktop');
  await shot(bob, 'room-phone-dark');

  // A reload is the same participant, and nobody sees it: Bob's row in Ada's page stays the very element's id, never departed.
  const id = await here(ada, 'Bob').getAttribute('data-member-id');
  await ada.evaluate(() => {
    globalThis.flaps = 0;
    const roster = document.querySelector('[data-test="roster"]');
    new MutationObserver(() => { if (roster.querySelector('[data-departed]')) globalThis.flaps += 1; }).observe(roster, { childList: true, subtree: true });
  });
  await bob.reload();
  await here(bob, 'Bob').filter({ hasText: '🎉' }).waitFor();
  assert.equal(await here(ada, 'Bob').getAttribute('data-member-id'), id);
  assert.equal(await ada.evaluate(() => globalThis.flaps), 0);

  await at(bob, 'leave').click();
  await ada.locator('[data-departed]', { hasText: 'Bob' }).filter({ hasText: 'last seen' }).waitFor();
  await shot(ada, 'room-after');
  await shot(bob, 'left-phone-dark');
  assert.deepEqual([...ada.errors, ...bob.errors], []);
});

test('a link that leads nowhere says so in words', { timeout: 60_000 }, async () => {
  const guest = await person();
  await guest.goto(`${server.origin}/join/nonsense`);
  await at(guest, 'problem-title').waitFor();
  assert.equal(await at(guest, 'problem-title').textContent(), 'This link leads nowhere');
  assert.equal(await at(guest, 'problem-detail').textContent(), 'This invitation link is not valid.');
  await shot(guest, 'refused');
  await at(guest, 'home').click();
  await at(guest, 'make-room').waitFor();
});

test('a room that is closed shows its page', { timeout: 60_000 }, async () => {
  await server.post('/v1/rooms', { id: 'doomed' });
  const { token } = await server.post('/v1/rooms/doomed/invites');
  const guest = await person();
  await comeIn(guest, `${server.origin}/join/${token}`, 'Eve');
  await fetch(`${server.origin}/v1/rooms/doomed`, { method: 'DELETE' });
  await at(guest, 'problem-detail').waitFor();
  assert.match(await at(guest, 'problem-detail').textContent(), /room .* closed/);
});
