// Starts the real binary on a port and a database of its own, and stops it with SIGTERM.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export async function start(...more) {
  const binary = process.env.ROLLCALL_BIN;
  assert.ok(binary, 'ROLLCALL_BIN names the binary to test');
  const folder = await mkdtemp(join(tmpdir(), 'rollcall-'));
  const args = ['serve', '--listen', '127.0.0.1:0', '--log-format', 'json', '--database-url', `sqlite://${folder}/rollcall.db`, ...more];
  let child = await run(args);
  const { origin } = child;

  /** Resolves when it listens. */
  async function run(args) {
    const process = spawn(binary, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    const exited = once(process, 'exit');
    const origin = await new Promise((resolve, reject) => {
      process.once('error', reject);
      process.once('exit', () => reject(new Error('the server ended before it listened')));
      createInterface({ input: process.stderr }).on('line', (line) => {
        const { message, address } = JSON.parse(line);
        if (message === 'listening') resolve(`http://${address}`);
      });
    });
    return { process, exited, origin };
  }

  async function end() {
    child.process.kill('SIGTERM');
    const [code] = await child.exited;
    assert.equal(code, 0, 'SIGTERM ends with exit code 0');
  }

  return {
    origin,
    async get(path) {
      const response = await fetch(origin + path);
      assert.ok(response.ok, `${path}: ${response.status}`);
      return response.json();
    },
    async post(path, body = {}, headers = {}) {
      const response = await fetch(origin + path, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) });
      assert.ok(response.ok, `${path}: ${response.status}`);
      return response.json();
    },
    /** Ends it, and starts another on the same address and database; `between` is run while there is none. */
    async restart(between = async () => {}) {
      await end();
      await between();
      child = await run(args.map((argument) => (argument === '127.0.0.1:0' ? new URL(origin).host : argument)));
    },
    async stop() {
      await end();
      await rm(folder, { recursive: true });
    },
  };
}
