// People with a browser each, and what is looked at on their pages.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { chromium } from 'playwright-core';
import { FLAGS } from './plain.mjs';

const SHOTS = process.env.SCREENSHOTS;
const AXE = new URL('./node_modules/axe-core/axe.min.js', import.meta.url);

export const DESKTOP = { viewport: { width: 1280, height: 800 } };
export const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };

export const launch = () => chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });

/** Somebody with a browser of their own. Faults of the page are kept; browsers also report every refusal, which is none. */
export async function person(browser, options = {}) {
  const context = await browser.newContext({ ...DESKTOP, ...options });
  const page = await context.newPage();
  page.errors = [];
  page.colorScheme = options.colorScheme ?? null;
  page.on('pageerror', (error) => page.errors.push(error.message));
  page.on('console', (message) => {
    const isRefusal = /^(Failed to load resource|WebSocket connection to)/.test(message.text());
    if (message.type() === 'error' && !isRefusal) page.errors.push(message.text());
  });
  return page;
}

export const at = (page, name) => page.locator(`[data-test="${name}"]`);
export const here = (page, name) => page.locator('[data-member-id]:not([data-departed])', { hasText: name });
export const gone = (page, name) => page.locator('[data-departed]', { hasText: name });

export async function shot(page, name) {
  if (SHOTS) await page.screenshot({ path: `${SHOTS}/${name}.png` });
}

export async function comeIn(page, link, name) {
  await page.goto(link);
  await at(page, 'name').fill(name);
  await at(page, 'join').click();
  await here(page, name).waitFor();
}

/** Counts how often somebody is seen to have left, from now on. */
export const countDepartures = (page) => page.evaluate(() => {
  globalThis.departures = 0;
  const roster = document.querySelector('[data-test="roster"]');
  const count = () => { if (roster.querySelector('[data-departed]')) globalThis.departures += 1; };
  new MutationObserver(count).observe(roster, { childList: true, subtree: true, attributes: true });
});
export const departures = (page) => page.evaluate(() => globalThis.departures);

/** Looks for barriers, by day and by night. */
export async function accessible(page, what) {
  if (!await page.evaluate(() => 'axe' in globalThis)) await page.evaluate(await readFile(AXE, 'utf8'));
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
    const told = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
    assert.deepEqual(told, [], `${what}, ${colorScheme}`);
  }
  await page.emulateMedia({ colorScheme: page.colorScheme });
}

/** A room and a link into it, made as an application would. */
export async function linkInto(server, id, room = {}, invite = {}) {
  await server.post('/v1/rooms', { id, ...room });
  const { token, id: inviteId } = await server.post(`/v1/rooms/${id}/invites`, invite);
  return { url: `${server.origin}/join/${token}`, token, inviteId };
}
