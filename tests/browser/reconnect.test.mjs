// Networks break and servers are replaced: the roster stays, a banner says so, and nobody is seen to leave.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
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

/** A wire between a browser and the server, with a switch. */
async function wire(origin) {
  const { hostname, port } = new URL(origin);
  const ends = new Set();
  let isCut = false;
  const proxy = createServer((near) => {
    if (isCut) return near.destroy();
    const far = connect(Number(port), hostname);
    for (const [one, other] of [[near, far], [far, near]]) {
      ends.add(one);
      one.pipe(other);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        ends.delete(one);
        other.destroy();
      });
    }
  }).listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  return {
    origin: `http://127.0.0.1:${proxy.address().port}`,
    cut() {
      isCut = true;
      for (const end of ends) end.destroy();
    },
    mend() { isCut = false; },
    close() {
      this.cut();
      proxy.close();
    },
  };
}

test('offline and back, unseen', { timeout: 60_000 }, async (t) => {
  const { url } = await linkInto(server, 'offline');
  const bob = await person(browser);
  await comeIn(bob, url, 'Bob');
  const line = await wire(server.origin);
  t.after(() => line.close());
  const ada = await person(browser, PHONE);
  await comeIn(ada, url.replace(server.origin, line.origin), 'Ada');
  await here(bob, 'Ada').waitFor();
  await countDepartures(bob);

  line.cut();
  await at(ada, 'banner').filter({ hasText: 'Connection lost' }).waitFor();
  assert.equal(await here(ada, 'Bob').count(), 1, 'the roster stays');
  await accessible(ada, 'reconnecting');
  await shot(ada, 'reconnecting-phone');
  line.mend();
  // The browser says that the network is back, and nobody waits for the next try.
  await ada.evaluate(() => dispatchEvent(new Event('online')));
  await at(ada, 'banner').waitFor({ state: 'hidden' });
  assert.equal(await departures(bob), 0);
  assert.equal(await gone(bob, 'Ada').count(), 0);
  assert.deepEqual([...ada.errors, ...bob.errors], []);
});

test('a browser that is offline says so, and comes back', { timeout: 60_000 }, async () => {
  const { url } = await linkInto(server, 'aeroplane');
  const ada = await person(browser);
  await comeIn(ada, url, 'Ada');
  await ada.context().setOffline(true);
  await at(ada, 'banner').waitFor();
  await ada.context().setOffline(false);
  await at(ada, 'banner').waitFor({ state: 'hidden' });
});

test('"try now" does not wait', { timeout: 60_000 }, async (t) => {
  const { url } = await linkInto(server, 'try-now');
  const line = await wire(server.origin);
  t.after(() => line.close());
  const ada = await person(browser);
  await ada.clock.install();
  await comeIn(ada, url.replace(server.origin, line.origin), 'Ada');
  line.cut();
  await at(ada, 'banner').filter({ hasText: /Next try in/ }).waitFor();
  // From here on nothing on the page happens by itself.
  await ada.clock.pauseAt(await ada.evaluate(() => Date.now() + 10));
  await shot(ada, 'reconnecting-desktop');
  line.mend();
  await at(ada, 'try-now').click();
  await at(ada, 'banner').waitFor({ state: 'hidden' });
});

test('a new server in place of the old one is nobody leaving', { timeout: 90_000 }, async () => {
  const { url } = await linkInto(server, 'restart');
  const [ada, bob] = [await person(browser), await person(browser)];
  await comeIn(ada, url, 'Ada');
  await comeIn(bob, url, 'Bob');
  await here(ada, 'Bob').waitFor();
  await Promise.all([countDepartures(ada), countDepartures(bob)]);
  await server.restart(async () => {
    await Promise.all([ada, bob].map((page) => at(page, 'banner').waitFor()));
    assert.equal(await here(ada, 'Bob').count(), 1);
  });
  await Promise.all([ada, bob].map((page) => at(page, 'banner').waitFor({ state: 'hidden' })));
  await at(bob, 'mood-🎉').click();
  await here(ada, 'Bob').filter({ hasText: '🎉' }).waitFor();
  assert.deepEqual([await departures(ada), await departures(bob)], [0, 0]);
  assert.deepEqual([...ada.errors, ...bob.errors], []);
});
