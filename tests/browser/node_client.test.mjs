// A client that shares no code with the server joins, beats and leaves.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import WebSocket from 'ws';
import { start } from './server.mjs';

test('a client of another language joins and heartbeats', { timeout: 30_000 }, async (t) => {
  const server = await start();
  t.after(() => server.stop());
  await server.post('/v1/rooms', { id: 'room' });
  const { token } = await server.post('/v1/rooms/room/invites');
  const url = `${server.origin.replace('http', 'ws')}/v1/connect?invite=${token}&name=Node`;
  const socket = new WebSocket(url, ['rollcall.v1']);
  const heard = [];
  socket.on('message', (data) => {
    const message = JSON.parse(data);
    heard.push(message.type);
    if (message.type === 'welcome') {
      assert.equal(message.protocol, 1);
      assert.equal(message.members[0].name, 'Node');
      socket.send(JSON.stringify({ type: 'heartbeat' }));
    }
    if (message.type === 'heartbeat_ack') socket.send(JSON.stringify({ type: 'leave' }));
  });
  const code = await new Promise((resolve, reject) => {
    socket.on('close', resolve);
    socket.on('error', reject);
  });
  assert.equal(socket.protocol, 'rollcall.v1');
  assert.equal(code, 1000);
  assert.ok(heard.includes('heartbeat_ack'));
});
