// How much the client weighs in a page, minified and compressed; with --check only whether that is within its limit.
// With names of other packages it weighs those too, installed into a folder of their own: `npm run size phoenix socket.io-client`.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { buildSync } from 'esbuild';

const LIMIT = 6 * 1024;

function weigh(name, contents, resolveDir) {
  const { outputFiles: [{ contents: code }] } = buildSync({
    stdin: { contents, resolveDir }, bundle: true, minify: true, format: 'esm', platform: 'browser', target: 'es2022', write: false, logLevel: 'error',
  });
  const sizes = { minified: code.length, gzip: gzipSync(code, { level: 9 }).length, brotli: brotliCompressSync(code).length };
  console.log(`${name}: ${sizes.minified} bytes, ${sizes.gzip} with gzip, ${sizes.brotli} with brotli`);
  return sizes.gzip;
}

const ours = weigh('rollcall-client', 'export * from "./client.js"', new URL('..', import.meta.url).pathname);
if (process.argv.includes('--check') && ours > LIMIT) {
  console.error(`more than ${LIMIT}`);
  process.exit(1);
}

const others = process.argv.slice(2).filter((argument) => !argument.startsWith('--'));
if (others.length) {
  const folder = mkdtempSync(join(tmpdir(), 'rollcall-size-'));
  execFileSync('npm', ['install', '--no-audit', '--no-fund', '--prefix', folder, ...others], { stdio: 'ignore' });
  for (const name of others) weigh(name, `export * from "${name}"`, folder);
  rmSync(folder, { recursive: true });
}
