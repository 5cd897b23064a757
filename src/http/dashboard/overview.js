// How the server is, how it was in the last hour, and what the reaper did.

import { get, post } from './api.js';
import { Chart, HOUR } from './chart.js';
import { confirm } from './dialog.js';
import { Table, button, count, make, when } from './parts.js';

/** A sweep may be long; to be told of one that is over is not urgent. */
const SWEEP_LIMIT = 120_000;
const SWEEPS_EVERY = 60_000;

const TILES = [
  ['connections', 'Connections', (stats) => stats.connections],
  ['observers', 'Observers', (stats) => stats.observers],
  ['rooms', 'Live rooms', (stats) => stats.rooms.live],
  ['online', 'People here', (stats) => stats.participants.online],
  ['stored', 'Rooms kept', (stats) => stats.rooms.stored],
  ['flush', 'Last flush', (stats) => `${stats.flush.last_ms} ms`],
];

export function overview(act) {
  const tiles = TILES.map(([name, label]) => [make('dd', { 'data-test': `figure-${name}` }, '–'), label]);
  const charts = [
    new Chart('Connections', 'open', [['with a seat', (sample) => sample.connections], ['watching', (sample) => sample.observers]], true),
    new Chart('Joins and leaves', 'in 5 s', [['joins', (sample) => sample.joins], ['leaves', (sample) => sample.leaves], ['refused', (sample) => sample.refusals]], true),
    new Chart('Heartbeat delay', 'ms until a heartbeat gets its turn', [['median', (sample) => sample.heartbeat_delay_ms], ['worst', (sample) => sample.heartbeat_delay_worst_ms]]),
    new Chart('Flush', 'ms for the longest', [['flush', (sample) => sample.flush_ms]]),
  ];
  const sweeps = new Table('Sweeps of the reaper', [
    ['When', ({ at }) => when(at)],
    ['Rooms', ({ rooms }) => make('span', { title: rooms.slice(0, 20).join(', ') }, String(rooms.length)), true],
    ['Participants', ({ participants }) => String(participants), true],
    ['Kind', ({ dry_run }) => (dry_run ? 'only looked' : 'deleted')],
  ], { 'data-test': 'sweeps' });
  const reap = button(act, 'Look for idle rooms …', 'reap', sweep, { class: null });
  let history = [];
  let sweepsAt = -Infinity;

  /** What would go is shown before anything goes. */
  async function sweep() {
    const found = await post('/v1/admin/reap', { dry_run: true }, SWEEP_LIMIT);
    sweepsAt = -Infinity;
    if (!found.rooms.length) return 'There is no idle room.';
    const list = make('ul', { class: 'ids', 'data-test': 'doomed' }, ...found.rooms.slice(0, 50).map((id) => make('li', {}, id)));
    const more = found.rooms.length > 50 ? make('p', {}, `and ${found.rooms.length - 50} more`) : null;
    const words = `${count(found.rooms.length, 'idle room')} with ${count(found.participants, 'participant')} would be deleted for good:`;
    if (!await confirm('Delete idle rooms?', 'Delete them', make('p', {}, words), list, ...(more ? [more] : []))) return null;
    const { rooms, participants } = await post('/v1/admin/reap', { dry_run: false }, SWEEP_LIMIT);
    sweepsAt = -Infinity;
    return `Deleted ${count(rooms.length, 'room')} with ${count(participants, 'participant')}.`;
  }

  const element = make('div', {},
    make('h1', {}, 'Overview'),
    make('dl', { class: 'tiles' }, ...tiles.map(([value, label]) => make('div', { class: 'card' }, make('dt', {}, label), value))),
    make('div', { class: 'charts' }, ...charts.map((chart) => chart.element)),
    make('section', { class: 'card', 'aria-labelledby': 'sweeps-title' }, make('h2', { id: 'sweeps-title' }, 'Reaper'), make('p', { class: 'actions' }, reap), sweeps.element));

  return {
    element,
    title: 'Overview',
    async load() {
      const stats = await get('/v1/admin/stats');
      const latest = history.at(-1)?.at;
      const { samples } = await get(`/v1/admin/history${latest ? `?${new URLSearchParams({ after: latest })}` : ''}`);
      const isDue = performance.now() - sweepsAt > SWEEPS_EVERY;
      const past = isDue ? await get('/v1/admin/reaps') : null;
      return () => {
        TILES.forEach(([, , read], index) => { tiles[index][0].textContent = String(read(stats)); });
        const all = [...history, ...samples];
        history = all.filter(({ at }) => Date.parse(at) > Date.parse(all.at(-1).at) - HOUR);
        for (const chart of charts) chart.show(history);
        if (!past) return;
        sweepsAt = performance.now();
        sweeps.fill(past.items, (sweep) => `${sweep.at} ${sweep.dry_run}`);
      };
    },
  };
}
