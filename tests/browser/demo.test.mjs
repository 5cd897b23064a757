// Two people in two browsers, through the demo, against the real binary.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { PHONE, accessible, at, comeIn, countDepartures, departures, gone, here, launch, linkInto, person, shot } from './people.mjs';
import { start } from './server.mjs';

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

test('two people make a room, see each other, and part', { timeout: 60_000 }, async () => {
  const ada = await person(browser, { permissions: ['clipboard-read', 'clipboard-write'] });
  await ada.goto(server.origin);
  await at(ada, 'room-title').fill('Tuesday reading');
  await at(ada, 'make-room').click();
  await at(ada, 'enter-room').waitFor();
  await shot(ada, 'home');
  const link = await at(ada, 'invite-link').inputValue();
  assert.ok(await at(ada, 'qr').evaluate(async (image) => { await image.decode(); return image.naturalWidth > 0; }), 'the QR code is drawn');
  await at(ada, 'copy-invite').click();
  await at(ada, 'copy-invite').filter({ hasText: 'Copied' }).waitFor();
  assert.equal(await ada.evaluate(() => navigator.clipboard.readText()), link);
  await accessible(ada, 'the start page');
  await comeIn(ada, link, 'Ada Lovelace');
  const bob = await person(browser, { ...PHONE, colorScheme: 'dark' });
  await bob.goto(link);
  await at(bob, 'name').waitFor();
  await shot(bob, 'door-phone-dark');
  await accessible(bob, 'the door');
  await comeIn(bob, link, 'Bob');
  await here(ada, 'Bob').waitFor();
  await here(bob, 'Ada Lovelace').waitFor();

  await at(bob, 'mood-🎉').click();
  await here(ada, 'Bob').filter({ hasText: '🎉' }).waitFor();
  await at(bob, 'idle').click();
  await here(ada, 'Bob').filter({ hasText: 'away' }).waitFor();
  await at(bob, 'table').hover({ position: { x: 60, y: 60 } });
  await ada.locator('.cursor', { hasText: 'Bob' }).waitFor();
  await at(ada, 'table').focus();
  await ada.keyboard.press('ArrowRight');
  await bob.locator('.cursor', { hasText: 'Ada Lovelace' }).waitFor();
  await shot(ada, 'room-desktop');
  await at(ada, 'invite').locator('summary').click();
  await accessible(ada, 'the room');
  await shot(ada, 'room-invite-desktop');
  await shot(bob, 'room-phone-dark');

  // A reload is the same participant, and nobody sees it: Bob's row in Ada's page stays the very element's id, never departed.
  const id = await here(ada, 'Bob').getAttribute('data-member-id');
  await countDepartures(ada);
  await bob.reload();
  await here(bob, 'Bob').filter({ hasText: '🎉' }).waitFor();
  assert.equal(await here(ada, 'Bob').getAttribute('data-member-id'), id);
  assert.equal(await departures(ada), 0);

  await at(bob, 'leave').click();
  await ada.locator('[data-departed]', { hasText: 'Bob' }).filter({ hasText: 'last seen' }).waitFor();
  await shot(ada, 'room-after');
  await shot(bob, 'left-phone-dark');
  assert.deepEqual([...ada.errors, ...bob.errors], []);
});

test('away by hand, and by itself no more until asked', { timeout: 60_000 }, async () => {
  const { url } = await linkInto(server, 'away');
  const [ada, bob] = [await person(browser), await person(browser)];
  await comeIn(ada, url, 'Ada');
  await comeIn(bob, url, 'Bob');
  await at(ada, 'idle').click();
  await here(bob, 'Ada').filter({ hasText: 'away' }).waitFor();
  await at(ada, 'idle').click();
  await here(bob, 'Ada').filter({ hasText: 'here' }).waitFor();
});

test('white letters show on every avatar', { timeout: 60_000 }, async () => {
  const page = await person(browser);
  await page.goto(server.origin);
  const faintest = await page.evaluate(async () => {
    const { colour } = await import('/demo/words.js');
    const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
    // Relative luminance and contrast as WCAG 2.2 defines them.
    const contrast = (id) => {
      canvas.fillStyle = colour(id);
      canvas.fillRect(0, 0, 1, 1);
      const [red, green, blue] = [...canvas.getImageData(0, 0, 1, 1).data].map((part) => {
        const share = part / 255;
        return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
      });
      return 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05);
    };
    const all = new Map(Array.from({ length: 3_000 }, (_, index) => [colour(`p_${index}`), contrast(`p_${index}`)]));
    return { hues: all.size, contrast: Math.min(...all.values()) };
  });
  assert.equal(faintest.hues, 360);
  assert.ok(faintest.contrast >= 4.5, `the faintest has a contrast of ${faintest.contrast.toFixed(2)}`);
});

test('`?guest=2` is somebody else in the same browser', { timeout: 60_000 }, async () => {
  const { url } = await linkInto(server, 'guests');
  const ada = await person(browser);
  await comeIn(ada, url, 'Ada');
  const other = await ada.context().newPage();
  await comeIn(other, `${url}?guest=2`, 'Zoe');
  await here(ada, 'Zoe').waitFor();
  const again = await ada.context().newPage();
  await comeIn(again, url, 'Ada');
  assert.equal(await here(ada, 'Ada').count(), 1, 'the link opened twice is one guest');
});

test('a reload goes back into the room one is in, and into no other', { timeout: 60_000 }, async () => {
  const { url } = await linkInto(server, 'known');
  const other = await linkInto(server, 'unknown');
  const ada = await person(browser);
  await comeIn(ada, url, 'Ada');
  await ada.reload();
  await here(ada, 'Ada').waitFor();
  await at(ada, 'leave').click();
  await ada.reload();
  await at(ada, 'join').waitFor();
  await ada.goto(other.url);
  assert.equal(await at(ada, 'name').inputValue(), 'Ada');
  await ada.reload();
  await at(ada, 'join').waitFor();
  const { occupancy } = await server.get('/v1/rooms/unknown/presence');
  assert.equal(occupancy, 0, 'nobody came in who did not say so');
});

test('whoever left comes back in by a button', { timeout: 60_000 }, async () => {
  const { url } = await linkInto(server, 'revolving');
  const ada = await person(browser);
  const bob = await person(browser);
  await comeIn(ada, url, 'Ada');
  await comeIn(bob, url, 'Bob');
  for (let count = 0; count < 2; count += 1) {
    await at(ada, 'leave').click();
    await at(ada, 'problem-title').filter({ hasText: 'You left' }).waitFor();
    await gone(bob, 'Ada').waitFor();
    await at(ada, 'retry').click();
    await here(bob, 'Ada').waitFor();
    await here(ada, 'Ada').waitFor();
  }
  await at(ada, 'table').focus();
  await ada.keyboard.press('ArrowRight');
  await bob.locator('.cursor', { hasText: 'Ada' }).waitFor();
  assert.equal(await ada.locator('.cursor').count(), 1);
  assert.deepEqual(ada.errors, []);
});

test('a limit that makes no sense is shown where it hides', { timeout: 60_000 }, async () => {
  const page = await person(browser);
  await page.goto(server.origin);
  await page.locator('#limits summary').click();
  await at(page, 'max-participants').fill('0');
  await page.locator('#limits summary').click();
  await at(page, 'make-room').click();
  await at(page, 'max-participants').waitFor();
  assert.ok(await page.locator('#limits').evaluate(({ open }) => open));
});

test('a second guest in one browser is a link away', { timeout: 60_000 }, async () => {
  const ada = await person(browser);
  await ada.goto(server.origin);
  await at(ada, 'make-room').click();
  await at(ada, 'enter-guest').waitFor();
  const [other] = await Promise.all([ada.waitForEvent('popup'), at(ada, 'enter-guest').click()]);
  await at(ada, 'enter-room').click();
  for (const [page, name] of [[ada, 'Ada'], [other, 'Zoe']]) {
    await at(page, 'name').fill(name);
    await at(page, 'join').click();
  }
  await here(ada, 'Zoe').waitFor();
  await here(other, 'Ada').waitFor();
});

test('a room with an end counts down to it, and says that it has come', { timeout: 60_000 }, async (t) => {
  const brief = await start('--heartbeat-interval', '500ms', '--heartbeat-timeout', '2s', '--flush-interval', '500ms', '--expiry-warning', '1m');
  t.after(() => brief.stop());
  const { url } = await linkInto(brief, 'brief', { max_age_seconds: 6 });
  const ada = await person(browser);
  await ada.clock.install();
  await comeIn(ada, url, 'Ada');
  await at(ada, 'expiring').filter({ hasText: /This room ends in 0:0\d/ }).waitFor();
  await shot(ada, 'ending-desktop');
  await at(ada, 'problem-title').filter({ hasText: 'This room has ended' }).waitFor();
  await ada.clock.runFor(3_000);
  assert.equal(await at(ada, 'expiring').isVisible(), false, 'what is over is not counted down to');
  assert.deepEqual(ada.errors, []);
});
