// A browser as people have it: Playwright keeps every tab awake and visible, and pages out of the back/forward cache.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import WebSocket from 'ws';

/** What Chromium needs on a machine without a screen or the internet. */
export const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'];

/** Starts Chromium and speaks its own protocol (CDP) with it. */
export async function launch(...flags) {
  const folder = await mkdtemp(join(tmpdir(), 'rollcall-chromium-'));
  const child = spawn(process.env.CHROMIUM ?? '/usr/bin/chromium', ['--headless=new', '--remote-debugging-port=0', ...FLAGS, ...flags, `--user-data-dir=${folder}`, 'about:blank'],
    { stdio: ['ignore', 'ignore', 'pipe'], detached: true });
  const exited = once(child, 'exit');
  const address = await new Promise((resolve, reject) => {
    child.once('exit', () => reject(new Error('chromium ended before it listened')));
    createInterface({ input: child.stderr }).on('line', (line) => {
      const match = /DevTools listening on (ws:.*)/.exec(line);
      if (match) resolve(match[1]);
    });
  });
  const socket = new WebSocket(address, { perMessageDeflate: false });
  await once(socket, 'open');
  const calls = new Map();
  let last = 0;
  socket.on('message', (data) => {
    const { id, result, error } = JSON.parse(data);
    const call = calls.get(id);
    calls.delete(id);
    if (error) call?.reject(new Error(error.message));
    else call?.resolve(result);
  });
  const send = (method, params = {}, sessionId = undefined) => new Promise((resolve, reject) => {
    calls.set(++last, { resolve, reject });
    socket.send(JSON.stringify({ id: last, method, params, sessionId }));
  });
  return {
    /** Opens a tab in the one window; the last opened is in front. */
    async open(url) {
      const { targetId } = await send('Target.createTarget', { url: 'about:blank' });
      const { sessionId } = await send('Target.attachToTarget', { targetId, flatten: true });
      const tab = new Tab((method, params) => send(method, params, sessionId), targetId, send);
      await send('Page.enable', {}, sessionId);
      await tab.goTo(url);
      return tab;
    },
    /** Stops every process of it, as when the lid is closed. */
    freeze: () => process.kill(-child.pid, 'SIGSTOP'),
    thaw: () => process.kill(-child.pid, 'SIGCONT'),
    async stop() {
      await send('Browser.close').catch(() => {});
      await exited;
      await rm(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

class Tab {
  #id;
  #browser;

  constructor(send, id, browser) {
    this.send = send;
    this.#id = id;
    this.#browser = browser;
  }

  bringToFront() {
    return this.#browser('Target.activateTarget', { targetId: this.#id });
  }

  close() {
    return this.#browser('Target.closeTarget', { targetId: this.#id });
  }

  /** Leaves the page for another. */
  async goTo(url) {
    await this.send('Page.navigate', { url });
    await this.loaded();
  }

  /** Goes back to the page before. */
  async back() {
    const { currentIndex, entries } = await this.send('Page.getNavigationHistory');
    await this.send('Page.navigateToHistoryEntry', { entryId: entries[currentIndex - 1].id });
    while ((await this.send('Page.getNavigationHistory')).currentIndex !== currentIndex - 1);
    await this.loaded();
  }

  async loaded() {
    await this.run(async () => { while (document.readyState !== 'complete') await new Promise((resolve) => addEventListener('load', resolve, { once: true })); });
  }

  /** Runs a function of the page, waits for its promise, and returns what it resolves with. */
  async run(body, ...args) {
    const expression = `(${body})(...${JSON.stringify(args)})`;
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true, userGesture: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }
}
