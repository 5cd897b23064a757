// One room: who is here, who ever was and when each was last seen, its links, and what an operator may do about it.

import { get, now, post, remove, roomPath } from './api.js';
import { confirm } from './dialog.js';
import { Table, button, make, span, when } from './parts.js';

/** The longest page there is. Rooms with more people are looked at by the API. */
const MOST = 1_000;

export function room(act, id) {
  const facts = make('dl', { class: 'facts', 'data-test': 'facts' });

  const people = new Table('People who ever joined', [
    ['Name', ({ name, user_id }) => make('span', { title: user_id ?? 'a guest' }, name)],
    ['Presence', ({ online, removed, connections }) => make('span', { class: `badge ${online ? 'on' : ''}` }, removed ? 'removed' : online ? connections > 1 ? `here, ${connections} tabs` : 'here' : 'gone')],
    ['Last seen', ({ last_seen_at }) => (last_seen_at ? when(last_seen_at) : 'not kept')],
    ['Came by', ({ access_method }) => access_method ?? null],
    ['Joined', ({ joined_at }) => when(joined_at)],
    ['Action', (person) => (person.removed
      ? button(act, 'Restore', 'restore', () => restore(person), { 'aria-label': `Restore ${person.name}` })
      : button(act, 'Remove …', 'remove', () => expel(person), { 'aria-label': `Remove ${person.name}` }))],
  ], { 'data-test': 'people' });

  const invites = new Table('Invite links', [
    ['Link', ({ id }) => make('code', {}, id)],
    ['Uses', ({ uses, max_uses }) => `${uses}${max_uses ? ` of ${max_uses}` : ''}`, true],
    ['Made', ({ created_at }) => when(created_at)],
    ['Action', ({ id, revoked_at, expires_at }) => {
      if (revoked_at) return 'revoked';
      if (expires_at && Date.parse(expires_at) < now()) return 'expired';
      return button(act, 'Revoke …', 'revoke', () => revoke(id), { 'aria-label': `Revoke ${id}` });
    }],
  ], { 'data-test': 'invites' });

  const morePeople = make('p', { class: 'note', hidden: true }, `These are the first ${MOST} who came, and who is here: the API has everybody.`);
  const moreInvites = make('p', { class: 'note', hidden: true }, `These are the oldest ${MOST}: the API has all of them.`);

  async function touch() {
    await post(roomPath(id, 'touch'));
    return 'The room counts as used just now.';
  }

  async function close() {
    const words = make('p', {}, 'Everybody in it is told that it was closed, and its links stop working. This cannot be undone.');
    if (!await confirm(`Close the room ${id}?`, 'Close it', words)) return null;
    await remove(roomPath(id));
    location.hash = '#/rooms';
    return `Closed ${id}.`;
  }

  async function expel(person) {
    const option = (name, text) => make('label', { class: 'check' }, make('input', { type: 'checkbox', name, 'data-test': `option-${name}` }), ` ${text}`);
    const form = await confirm(`Remove ${person.name}?`, 'Remove',
      make('p', {}, person.user_id === null
        ? 'They are disconnected at once. By a link that works a guest may come again from another browser, as somebody new.'
        : 'They are disconnected at once and may not come back.'),
      option('kick', 'Let them come back'), ...(person.access_method === 'invite' ? [option('revoke', 'Revoke the link they came by')] : []));
    if (!form) return null;
    const query = new URLSearchParams({ bar: String(!form.has('kick')), revoke_invite: String(form.has('revoke')) });
    await remove(`${roomPath(id, 'participants', person.id)}?${query}`);
    return `Removed ${person.name}.`;
  }

  async function restore(person) {
    await post(roomPath(id, 'participants', person.id, 'restore'));
    return `${person.name} may come back.`;
  }

  async function revoke(invite) {
    if (!await confirm('Revoke this link?', 'Revoke it', make('p', {}, 'Nobody can come in by it any more. Whoever is in stays.'))) return null;
    await remove(`/v1/invites/${encodeURIComponent(invite)}`);
    return 'Revoked the link.';
  }

  async function invite() {
    const { url } = await post(roomPath(id, 'invites'));
    return `The new link, shown once: ${url}`;
  }

  const element = make('div', {},
    make('h1', {}, id),
    make('p', { class: 'actions' }, button(act, 'Touch', 'touch', touch), button(act, 'New link', 'new-invite', invite), button(act, 'Close …', 'close', close, { class: 'small danger' })),
    make('section', { class: 'card' }, make('h2', {}, 'Room'), facts),
    make('section', { class: 'card' }, make('h2', {}, 'People'), people.element, morePeople),
    make('section', { class: 'card' }, make('h2', {}, 'Links'), invites.element, moreInvites));

  return {
    element,
    title: id,
    async load() {
      const details = await get(roomPath(id));
      const expiry = await get(roomPath(id, 'expiry'));
      const here = await get(`${roomPath(id, 'presence')}?limit=${MOST}`);
      const ever = await get(`${roomPath(id, 'participants')}?limit=${MOST}`);
      const links = await get(`${roomPath(id, 'invites')}?limit=${MOST}`);
      return () => draw({ details, expiry, here, ever, links });
    },
  };

  function draw({ details, expiry, here, ever, links }) {
    const known = [
      ['Here now', String(details.online)], ['Observers', String(details.observers)],
      ['Expires', expiry.expired ? 'has expired' : expiry.seconds_remaining === null ? 'never' : `in ${span(expiry.seconds_remaining)}`],
      ['Idle after', span(details.idle_timeout_seconds)], ['When idle', details.on_idle], ['People at most', String(details.max_participants ?? 'any number')],
      ['Metadata', JSON.stringify(details.metadata)],
    ];
    facts.replaceChildren(...known.flatMap(([term, value]) => [make('dt', {}, term), make('dd', {}, value)]));
    // Whoever is here is shown, however many came before.
    const everybody = new Map([...here.items.map((member) => ({ ...member, online: true })), ...ever.items].map((person) => [person.id, person]));
    for (const { id, connections } of here.items) everybody.set(id, { ...everybody.get(id), connections });
    people.fill([...everybody.values()].sort(byPresence), (person) => person.id);
    invites.fill(links.items, (link) => link.id);
    morePeople.hidden = ever.next_cursor === null;
    moreInvites.hidden = links.next_cursor === null;
  }
}

/** Who is here first, then by name: an order that no heartbeat changes, so that no button moves under a pointer. */
function byPresence(a, b) {
  return b.online - a.online || (a.name ?? '').localeCompare(b.name ?? '') || (a.id < b.id ? -1 : 1);
}
