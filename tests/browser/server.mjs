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
  const child = spawn(binary, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  const exited = once(child, 'exit');
  const origin = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', () => reject(new Error('the server ended before it listened')));
    createInterface({ input: child.stderr }).on('line', (line) => {
      const { message, address } = JSON.parse(line);
      if (message === 'listening') resolve(`http://${address}`);
    });
  });
  return {
    origin,
    async post(path, body = {}, headers = {}) {
      const response = await fetch(origin + path, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) });
      assert.ok(response.ok, `${path}: ${response.status}`);
      return response.json();
    },
    async stop() {
      child.kill('SIGTERM');
      const [code] = await exited;
      await rm(folder, { recursive: true });
      assert.equal(code, 0, 'SIGTERM ends with exit code 0');
    },
  };
}
