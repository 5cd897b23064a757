// Two hundred people in a room, coming, going idle and pointing: the page keeps up.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import WebSocket from 'ws';
import { accessible, at, comeIn, here, launch, linkInto, person, shot } from './people.mjs';
import { start } from './server.mjs';

const CROWD = 200;
/** A frame this late is one that people see. */
const LATE = 100;

let server;
let browser;

before(async () => {
  server = await start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

async function guest(token, number) {
  const query = new URLSearchParams({ invite: token, name: `Guest ${number}`, client: `guest-of-the-crowd-${number}` });
  const socket = new WebSocket(`${server.origin.replace('http', 'ws')}/v1/connect?${query}`, ['rollcall.v1']);
  socket.on('message', () => {});
  await once(socket, 'open');
  return socket;
}

test('200 members without jank', { timeout: 120_000 }, async (t) => {
  const { url, token } = await linkInto(server, 'crowd');
  const ada = await person(browser);
  await comeIn(ada, url, 'Ada');
  await ada.evaluate((late) => {
    globalThis.jank = { frames: 0, late: 0, worst: 0, long: [], inserted: 0 };
    new MutationObserver((records) => { for (const { addedNodes } of records) jank.inserted += addedNodes.length; })
      .observe(document.querySelector('[data-test="roster"]'), { childList: true });
    new PerformanceObserver((list) => { for (const { duration } of list.getEntries()) jank.long.push(Math.round(duration)); }).observe({ type: 'longtask' });
    let before = performance.now();
    const frame = (now) => {
      const gap = now - before;
      before = now;
      jank.frames += 1;
      jank.worst = Math.max(jank.worst, Math.round(gap));
      if (gap > late) jank.late += 1;
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }, LATE);

  const crowd = [];
  for (let number = 1; number < CROWD; number += 1) crowd.push(await guest(token, number));
  await at(ada, 'roster').locator('li').nth(CROWD - 1).waitFor({ state: 'attached' });
  // Everybody changes something, and twenty point at things.
  for (const [index, socket] of crowd.entries()) {
    socket.send(JSON.stringify({ type: 'update', status: 'idle', state: { mood: '🙂' } }));
    if (index < 20) for (let x = 0; x < 20; x += 1) socket.send(JSON.stringify({ type: 'broadcast', event: 'cursor', payload: { x: x / 20, y: index / 20 } }));
  }
  await here(ada, 'away').nth(CROWD - 2).waitFor({ state: 'attached' });
  assert.ok(await ada.locator('.cursor').count() > 0, 'cursors are on the table');
  assert.equal(await ada.evaluate(() => jank.inserted), CROWD - 1, 'a row is made and placed once, whatever changes about it');
  await shot(ada, 'crowd-desktop');
  for (const socket of crowd.slice(100)) socket.send(JSON.stringify({ type: 'leave' }));
  await at(ada, 'roster').locator('[data-departed]').nth(19).waitFor({ state: 'attached' });
  await ada.getByText('People 101').waitFor();
  const { frames, late, worst, long } = await ada.evaluate(() => jank);
  // Figures, and no verdict: a shared machine is late by itself.
  t.diagnostic(`${frames} frames, ${late} later than ${LATE} ms, the worst ${worst} ms; ${long.length} long tasks of ${long.join(', ') || 'none'} ms`);
  assert.ok(frames > 0, 'frames were counted');
  await accessible(ada, 'a crowd');
  for (const socket of crowd) socket.terminate();
  assert.deepEqual(ada.errors, []);
});
