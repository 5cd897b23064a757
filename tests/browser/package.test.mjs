// What a stranger does: packs the client, installs it into an empty project, and pastes what its README says.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { after, before, test } from 'node:test';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';
import { FLAGS } from './plain.mjs';
import { start } from './server.mjs';

const CLIENT = new URL('../../clients/js/', import.meta.url).pathname;
const run = promisify(execFile);

const KEY = 'an-api-key-of-the-application';
const LOGINS = new URL('../../docs/logins.md', import.meta.url);

let project;
let application;
let server;
let browser;

before(async () => {
  project = await mkdtemp(join(tmpdir(), 'rollcall-project-'));
  // An application on an address of its own, as in production.
  application = createServer((request, response) => serve(request, response)).listen(0, '127.0.0.1');
  await once(application, 'listening');
  // As `rollcall key > …` writes it.
  await writeFile(join(project, 'jwt-secret'), 'a-secret-that-both-sides-share-0123456789\n');
  server = await start('--api-key', KEY, '--jwt-secret-file', join(project, 'jwt-secret'), '--allowed-origin', home(), '--heartbeat-interval', '500ms', '--heartbeat-timeout', '2s', '--flush-interval', '1s', '--reconnect-grace', '500ms');
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', project], { cwd: CLIENT });
  const [{ filename }] = JSON.parse(stdout.slice(stdout.indexOf('[')));
  await run('npm', ['init', '--yes'], { cwd: project });
  await run('npm', ['install', '--no-audit', '--no-fund', '--save-exact', `./${filename}`,
    'react@19.3.1', 'react-dom@19.3.1', '@types/react@19.3.3', '@types/react-dom@19', 'esbuild@0.28.2', 'typescript@7.0.2', 'jose@6'], { cwd: project });
});

after(async () => {
  await browser?.close();
  await server?.stop();
  application?.close();
  if (project) await rm(project, { recursive: true });
});

const home = () => `http://127.0.0.1:${application.address().port}`;
const pages = new Map();

function serve(request, response) {
  const file = pages.get(request.url);
  response.writeHead(file ? 200 : 404, { 'content-type': request.url.endsWith('.js') ? 'text/javascript' : 'text/html' });
  response.end(file);
}

/** A page of the application, whose script is built from this text. */
async function page(name, script, html) {
  await writeFile(join(project, `${name}.jsx`), script);
  await run('npx', ['esbuild', `${name}.jsx`, '--bundle', '--format=esm', '--jsx=automatic', `--outfile=${name}.out.js`], { cwd: project });
  pages.set(`/${name}.js`, await readFile(join(project, `${name}.out.js`), 'utf8'));
  pages.set(`/${name}`, `<!doctype html><meta charset="utf-8"><title>${name}</title><link rel="icon" href="data:,">${html}<script type="module" src="/${name}.js"></script>`);
  const page = await (await browser.newContext()).newPage();
  page.errors = [];
  page.on('pageerror', (error) => page.errors.push(error.message));
  page.on('console', (message) => { if (message.type() === 'error') page.errors.push(message.text()); });
  await page.goto(`${home()}/${name}`);
  return page;
}

async function invite(room) {
  const headers = { authorization: `Bearer ${KEY}` };
  await server.post('/v1/rooms', { id: room }, headers);
  return (await server.post(`/v1/rooms/${room}/invites`, {}, headers)).token;
}

/** A block of the client's README, with this server and invite instead of its examples. */
async function example(language, token) {
  const readme = await readFile(join(project, 'node_modules/rollcall-client/README.md'), 'utf8');
  const [, block] = new RegExp(`\`\`\`${language}\\n(.*?)\`\`\``, 's').exec(readme);
  const script = block.replaceAll('https://presence.example', server.origin).replaceAll('INVITE_TOKEN', token);
  assert.ok(script.includes(token), 'the example has a place for the invite');
  return script;
}

test('the ten lines of plain JavaScript', { timeout: 60_000 }, async () => {
  const token = await invite('plain');
  const script = await example('js', token);
  const ada = await page('plain', script, '<ul id="people"></ul>');
  await ada.getByText('Ada (active)').waitFor();
  const bob = await page('plain-bob', script.replace('Ada', 'Bob'), '<ul id="people"></ul>');
  await ada.getByText('Bob (active)').waitFor();
  await bob.getByText('Ada (active)').waitFor();
  assert.equal(await ada.title(), 'open');
  await bob.context().close();
  await ada.getByText('Bob').waitFor({ state: 'detached' });
  assert.deepEqual(ada.errors, []);
});

test('the ten lines of plain JavaScript show a refusal', { timeout: 60_000 }, async () => {
  const eve = await page('refused', await example('js', 'nonsense-that-is-no-invite'), '<ul id="people"></ul>');
  await eve.getByText('This invitation link is not valid.').waitFor();
});

test('the ten lines of React', { timeout: 60_000 }, async () => {
  const script = await example('jsx', await invite('react'));
  const ada = await page('react', `import { createRoot } from 'react-dom/client';\n${script}\ncreateRoot(document.querySelector('#root')).render(<Page />);`, '<div id="root"></div>');
  await ada.getByRole('listitem').filter({ hasText: 'Ada' }).waitFor();
  await ada.locator('ul[aria-busy="false"]').waitFor();
  assert.deepEqual(ada.errors, []);
});

test('StrictMode takes one seat, and nobody sees it blink', { timeout: 60_000 }, async () => {
  const token = await invite('strict');
  const strict = (name) => `
    import { StrictMode, memo, useState } from 'react';
    import { createRoot } from 'react-dom/client';
    import { RoomProvider, useBroadcast, useConnection, useMembers, useRoom, useSelf } from 'rollcall-client/react';
    globalThis.renders = {};
    const Row = memo(({ member }) => {
      renders[member.name] = (renders[member.name] ?? 0) + 1;
      return <li>{member.name}: {String(member.state.mood ?? 'none')}</li>;
    });
    function People() {
      const room = globalThis.room = useRoom();
      const [said, setSaid] = useState('');
      globalThis.say = useBroadcast('word', (payload) => setSaid(payload));
      const self = useSelf();
      return <><p id="self">{self?.name}</p><p id="said">{said}</p><p id="connection">{useConnection()}</p>
        <ul>{useMembers().map((member) => <Row key={member.id} member={member} />)}</ul></>;
    }
    function App() {
      const [isIn, setIn] = useState(true);
      globalThis.setIn = setIn;
      return isIn ? <RoomProvider url=${JSON.stringify(server.origin)} invite=${JSON.stringify(token)} name=${JSON.stringify(name)}><People /></RoomProvider> : <p>outside</p>;
    }
    createRoot(document.querySelector('#root')).render(<StrictMode><App /></StrictMode>);`;
  const html = '<div id="root"></div>';
  const ada = await page('strict-ada', strict('Ada'), html);
  await ada.getByText('Ada: none').waitFor();
  await ada.evaluate(() => {
    globalThis.seen = [];
    for (const type of ['join', 'leave']) room.on(type, ({ name }) => seen.push(`${type} ${name}`));
  });
  const bob = await page('strict-bob', strict('Bob'), html);
  await ada.getByText('Bob: none').waitFor();
  await bob.getByText('Ada: none').waitFor();
  const answer = await fetch(`${server.origin}/v1/rooms/strict/presence`, { headers: { authorization: `Bearer ${KEY}` } });
  const { items } = await answer.json();
  assert.deepEqual(items.map(({ name, connections }) => [name, connections]), [['Ada', 1], ['Bob', 1]]);

  // Only the row that changed renders again.
  const before = await ada.evaluate(() => ({ ...renders }));
  await bob.evaluate(() => room.update({ mood: 'glad' }));
  await ada.getByText('Bob: glad').waitFor();
  const now = await ada.evaluate(() => ({ ...renders }));
  assert.equal(now.Ada, before.Ada);
  assert.ok(now.Bob > before.Bob);

  assert.equal(await bob.evaluate(() => say('hello')), true);
  await ada.locator('#said', { hasText: 'hello' }).waitFor();

  // Unmounting leaves, at once and for good.
  await bob.evaluate(() => setIn(false));
  await ada.getByText('Bob: glad').waitFor({ state: 'detached' });
  assert.deepEqual(await ada.evaluate(() => seen), ['join Bob', 'leave Bob']);
  await bob.evaluate(() => setIn(true));
  await ada.getByText('Bob: none').waitFor();
  assert.deepEqual([...ada.errors, ...bob.errors], []);
});

test('the types are there, and say no to nonsense', { timeout: 60_000 }, async () => {
  await writeFile(join(project, 'right.ts'), `
    import { join, type Member, RefusedError } from 'rollcall-client';
    const room = join({ invite: 'x', name: 'Ada', state: { mood: 1 } });
    room.on('join', (member: Member) => member.name.length);
    room.on('leave', ({ reason, last_seen_at }) => [reason, last_seen_at]);
    room.on('refused', (error: RefusedError) => error.retryAfter);
    async () => { for await (const { type, detail } of room) if (type === 'broadcast') detail.event.length; };
    // @ts-expect-error there is no such event
    room.on('jion', () => {});
    // @ts-expect-error a number is no name
    join({ invite: 'x', name: 1 });
  `);
  const options = ['tsc', '--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2023', '--lib', 'es2023,dom,dom.iterable', '--types', '', 'right.ts'];
  await run('npx', options, { cwd: project }).catch(({ stdout }) => assert.fail(stdout));
});

test('beside a login, with the page and the Node backend of docs/logins.md', { timeout: 60_000 }, async (t) => {
  const text = await readFile(LOGINS, 'utf8');
  const block = (heading, from, to) => {
    const [, code] = new RegExp(`## ${heading}\n.*?\`\`\`js\n(.*?)\`\`\``, 's').exec(text);
    assert.ok(code.includes(from), `${heading} has a place for ${to}`);
    return code.replace(from, to);
  };
  await writeFile(join(project, 'backend.mjs'), block('Node', 'listen(3000)', 'listen(0, function () { console.log(this.address().port); })'));
  const env = { ...process.env, ROLLCALL_JWT_SECRET_FILE: join(project, 'jwt-secret') };
  const backend = spawn('node', ['backend.mjs'], { cwd: project, env, stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => backend.kill());
  const [port] = await once(createInterface({ input: backend.stdout }), 'line');
  pages.set('/presence-token', await (await fetch(`http://127.0.0.1:${port}`, { method: 'POST' })).text());
  const script = block('The page', 'https://presence.example', server.origin);
  const ada = await page('login', `${script}\nroom.on('sync', () => { document.title = room.members.map(({ name, user_id }) => [name, user_id]).join(); });`, '');
  await ada.waitForFunction(() => document.title === 'Ada,user-1');
  assert.deepEqual(ada.errors, []);
});
