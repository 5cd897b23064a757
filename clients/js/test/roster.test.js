// Who is here, by what the frames say.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Roster } from '../client/roster.js';
import { member, scripted, seeded } from './harness.js';

const ids = (room) => room.members.map(({ id }) => id);
const presence = (change) => ({ type: 'presence', seq: 42, occupancy: 2, ...change });
const CHANGES = ['sync', 'join', 'update', 'leave'];
const changes = (room) => room.log.filter(([type]) => CHANGES.includes(type)).map(([type, detail]) => [type, detail.id ?? detail.resumed]);

scripted('the first roster is not told, but that it is there', async (world) => {
  const room = await world.enter();
  assert.deepEqual(ids(room), ['ada', 'me']);
  assert.deepEqual(changes(room), [['sync', false]]);
  assert.equal(room.self.id, 'me');
  assert.equal(room.id, 'me');
  assert.equal(room.occupancy, 2);
});

scripted('frames are applied by id, and told', async (world) => {
  const room = await world.enter();
  room.log.length = 0;
  world.socket.say(presence({ occupancy: 3, joined: [member('bob')] }));
  assert.deepEqual(ids(room), ['ada', 'bob', 'me']);
  world.socket.say(presence({ occupancy: 3, updated: [{ id: 'bob', status: 'idle', state: { x: 1 } }] }));
  assert.deepEqual(room.members[1], member('bob', { status: 'idle', state: { x: 1 } }));
  const last_seen_at = '2026-11-24T10:00:09.000Z';
  world.socket.say(presence({ left: [{ id: 'bob', reason: 'timeout', last_seen_at }] }));
  assert.deepEqual(changes(room), [['join', 'bob'], ['update', 'bob'], ['leave', 'bob']]);
  assert.deepEqual(room.told('leave'), [member('bob', { status: 'idle', state: { x: 1 }, reason: 'timeout', last_seen_at })]);
  assert.equal(room.occupancy, 2);
});

scripted('a frame may name who is known, and who is not', async (world) => {
  const room = await world.enter();
  const before = room.members;
  room.log.length = 0;
  world.socket.say(presence({
    joined: [member('me')], updated: [{ id: 'ghost', status: 'idle' }], left: [{ id: 'phantom', reason: 'left', last_seen_at: '' }],
  }));
  assert.deepEqual(changes(room), []);
  assert.equal(room.members, before);
});

scripted('unchanged members and an unchanged array stay the same', async (world) => {
  const room = await world.enter();
  const before = room.members;
  assert.ok(Object.isFrozen(before) && before.every(Object.isFrozen));
  world.socket.say(presence({ updated: [{ id: 'me', status: 'idle' }] }));
  const after = room.members;
  assert.notEqual(after, before);
  assert.equal(after[0], before[0]);
  assert.notEqual(after[1], before[1]);
  assert.equal(room.members, after);
});

scripted('a roster that says nothing new changes nothing', async (world) => {
  const room = await world.enter();
  const before = room.members;
  world.socket.say({ type: 'sync', seq: 50, roster: 'full', occupancy: 2, members: [member('me', { last_seen_at: 'later' }), member('ada')] });
  assert.equal(room.members, before);
});

scripted('what differs after coming back is told before sync', async (world) => {
  const room = await world.enter();
  await world.tick(30_000);
  world.socket.ack();
  const heard = new Date(world.clock.now).toISOString();
  world.socket.end(1006);
  await world.tick(20_000);
  room.log.length = 0;
  world.socket.welcome({ resumed: true, members: [member('me', { state: { x: 1 } }), member('bob')] });
  assert.deepEqual(changes(room), [['update', 'me'], ['join', 'bob'], ['leave', 'ada'], ['sync', true]]);
  const [gone] = room.told('leave');
  assert.equal(gone.reason, null);
  assert.equal(gone.last_seen_at, heard, 'it was there when anything was heard last');
});

scripted('a crowd is only counted, and shrinks back', async (world) => {
  const room = await world.enter();
  room.log.length = 0;
  world.socket.say({ type: 'sync', seq: 50, roster: 'count', occupancy: 1001 });
  assert.deepEqual([room.roster, room.occupancy, room.members.length, room.self], ['count', 1001, 0, null]);
  world.socket.say(presence({ occupancy: 1010 }));
  assert.equal(room.occupancy, 1010);
  world.socket.say({ type: 'sync', seq: 60, roster: 'full', occupancy: 3, members: ['me', 'ada', 'bob'].map((id) => member(id)) });
  assert.deepEqual(ids(room), ['ada', 'bob', 'me']);
  assert.deepEqual(changes(room), [['sync', false], ['sync', false], ['sync', false]]);
});

scripted('an observer is nobody', async (world) => {
  const room = await world.enter({}, {
    self: { participant_id: null, connection_id: 'c1', resume_token: null }, members: [member('ada')], occupancy: 1,
  });
  assert.deepEqual([room.id, room.self], [null, null]);
  assert.deepEqual(ids(room), ['ada']);
});

scripted('order is the time of joining, then the id', async (world) => {
  const at = (minute) => ({ joined_at: `2026-11-24T09:0${minute}:00.000Z` });
  const room = await world.enter({}, { members: [member('d', at(2)), member('c', at(1)), member('b', at(2)), member('me', at(3))] });
  assert.deepEqual(ids(room), ['c', 'b', 'd', 'me']);
});

/** What the frames mean, written down as simply as can be. */
class Model {
  members = {};
  mode = 'full';
  isKnown = false;

  replace({ roster, members = [] }) {
    const next = Object.fromEntries(members.map((entry) => [entry.id, entry]));
    const told = [];
    for (const entry of members) {
      const old = this.members[entry.id];
      if (!old) told.push(`join ${entry.id}`);
      else if (face(old) !== face(entry)) told.push(`update ${entry.id}`);
    }
    for (const id of Object.keys(this.members)) if (!next[id]) told.push(`leave ${id}`);
    const isTold = this.isKnown && this.mode === 'full' && roster === 'full';
    Object.assign(this, { members: next, mode: roster, isKnown: true });
    return isTold ? told : [];
  }

  apply({ joined = [], updated = [], left = [] }) {
    const told = [];
    for (const entry of joined) {
      const old = this.members[entry.id];
      if (old && face(old) === face(entry)) continue;
      told.push(`${old ? 'update' : 'join'} ${entry.id}`);
      this.members[entry.id] = entry;
    }
    for (const { id, ...change } of updated) {
      if (!this.members[id]) continue;
      told.push(`update ${id}`);
      this.members[id] = { ...this.members[id], ...change };
    }
    for (const { id } of left) {
      if (!this.members[id]) continue;
      told.push(`leave ${id}`);
      delete this.members[id];
    }
    return told;
  }

  list() {
    return Object.values(this.members).map((entry) => `${entry.joined_at} ${entry.id} ${face(entry)}`).sort();
  }
}

const face = ({ name, status, state }) => JSON.stringify([name, status, state]);

test('random frames mean the same to an independent model', () => {
  for (let seed = 1; seed <= 200; seed += 1) {
    const random = seeded(seed);
    const roster = new Roster();
    const model = new Model();
    const somebody = () => {
      const id = `p${random.below(6)}`;
      // When somebody joined first does not change.
      return member(id, { joined_at: `2026-11-24T0${id[1] % 3}:00:00.000Z`, status: random.pick(['active', 'idle']), state: { n: random.below(2) } });
    };
    const several = () => [...new Map(Array.from({ length: random.below(4) }, somebody).map((entry) => [entry.id, entry])).values()];
    for (let step = 0; step < 60; step += 1) {
      const before = roster.list;
      const occupancy = random.below(9);
      let told;
      let expected;
      if (step === 0 || random.below(6) === 0) {
        const mode = random.pick(['full', 'full', 'count']);
        const frame = { roster: mode, occupancy, ...(mode === 'full' && { members: several() }) };
        expected = model.replace(frame);
        told = roster.replace(structuredClone(frame), '');
      } else if (model.mode === 'count') {
        expected = model.apply({});
        told = roster.apply({ occupancy });
      } else {
        const frame = {
          occupancy,
          joined: several(),
          updated: several().map(({ id, status }) => ({ id, status })),
          left: several().slice(0, 1).map(({ id }) => ({ id, reason: 'left', last_seen_at: '' })),
        };
        expected = model.apply(frame);
        told = roster.apply(structuredClone(frame));
      }
      const where = `seed ${seed}, step ${step}`;
      assert.deepEqual(told.map(([type, { id }]) => `${type} ${id}`).sort(), expected.sort(), where);
      assert.deepEqual(roster.list.map((entry) => `${entry.joined_at} ${entry.id} ${face(entry)}`), model.list(), where);
      assert.equal(roster.occupancy, occupancy, where);
      assert.equal(roster.mode, model.mode, where);
      // The same look is the same object, and the same objects the same array.
      for (const entry of roster.list) {
        const old = before.find(({ id }) => id === entry.id);
        if (old && !expected.some((line) => line.endsWith(` ${entry.id}`)) && face(old) === face(entry)) assert.equal(entry, old, where);
      }
      if (!expected.length && roster.list.length === before.length && roster.list.every((entry, index) => entry === before[index])) {
        assert.equal(roster.list, before, where);
      }
    }
  }
});
