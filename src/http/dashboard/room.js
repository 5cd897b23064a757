// One room: who is here, who ever was and when each was last seen, its links, and what an operator may do about it.

import { get, post, remove, roomPath } from './api.js';
import { confirm } from './dialog.js';
import { Table, make, span, when } from './parts.js';

/** The longest page there is. Rooms with more people are looked at by the API. */
const MOST = 1_000;
const button = (name, test, onclick, more = {}) => make('button', { type: 'button', class: 'small', 'data-test': test, onclick, ...more }, name);

export function room({ act, refresh }, id) {
  const facts = make('dl', { class: 'facts', 'data-test': 'facts' });

  const people = new Table('People who ever joined', [
    ['Name', ({ name, user_id }) => make('span', { title: user_id ?? 'a guest' }, name)],
    ['Presence', ({ online, removed, connections }) => make('span', { class: `badge ${online ? 'on' : ''}` }, removed ? 'removed' : online ? connections > 1 ? `here, ${connections} tabs` : 'here' : 'gone')],
    ['Last seen', ({ last_seen_at }) => (last_seen_at ? when(last_seen_at) : 'not kept')],
    ['Came by', ({ access_method }) => access_method],
    ['Joined', ({ joined_at }) => when(joined_at)],
    ['Action', (person) => (person.removed
      ? button('Restore', 'restore', () => act(() => restore(person)), { 'aria-label': `Restore ${person.name}` })
      : button('Remove …', 'remove', () => act(() => expel(person)), { 'aria-label': `Remove ${person.name}` }))],
  ], { 'data-test': 'people' });

  const invites = new Table('Invite links', [
    ['Link', ({ id }) => make('code', {}, id)],
    ['Uses', ({ uses, max_uses }) => `${uses}${max_uses ? ` of ${max_uses}` : ''}`, true],
    ['Made', ({ created_at }) => when(created_at)],
    ['Action', ({ id, revoked_at, expires_at }) => {
      if (revoked_at) return 'revoked';
      if (expires_at && Date.parse(expires_at) < Date.now()) return 'expired';
      return button('Revoke …', 'revoke', () => act(() => revoke(id)), { 'aria-label': `Revoke ${id}` });
    }],
  ], { 'data-test': 'invites' });

  const more = make('p', { class: 'note', hidden: true }, `These are the first ${MOST} of them: the API has everybody.`);

  async function touch() {
    await post(roomPath(id, 'touch'));
    await refresh();
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
      make('p', {}, 'They are disconnected at once and may not come back.'),
      option('kick', 'Let them come back'), option('revoke', 'Revoke the link they came by'));
    if (!form) return null;
    const query = new URLSearchParams({ bar: String(!form.has('kick')), revoke_invite: String(form.has('revoke')) });
    await remove(`${roomPath(id, 'participants', person.id)}?${query}`);
    await refresh();
    return `Removed ${person.name}.`;
  }

  async function restore(person) {
    await post(roomPath(id, 'participants', person.id, 'restore'));
    await refresh();
    return `${person.name} may come back.`;
  }

  async function revoke(invite) {
    if (!await confirm('Revoke this link?', 'Revoke it', make('p', {}, 'Nobody can come in by it any more. Whoever is in stays.'))) return null;
    await remove(`/v1/invites/${encodeURIComponent(invite)}`);
    await refresh();
    return 'Revoked the link.';
  }

  async function invite() {
    const { url } = await post(roomPath(id, 'invites'));
    await refresh();
    return `The new link, shown once: ${url}`;
  }

  const element = make('div', {},
    make('h1', {}, id),
    make('p', { class: 'actions' }, button('Touch', 'touch', () => act(touch)), button('New link', 'new-invite', () => act(invite)), button('Close …', 'close', () => act(close), { class: 'small danger' })),
    make('section', { class: 'card' }, make('h2', {}, 'Room'), facts),
    make('section', { class: 'card' }, make('h2', {}, 'People'), people.element, more),
    make('section', { class: 'card' }, make('h2', {}, 'Links'), invites.element));

  return {
    element,
    title: id,
    async load() {
      const details = await get(roomPath(id));
      const expiry = await get(roomPath(id, 'expiry'));
      const here = await get(`${roomPath(id, 'presence')}?limit=${MOST}`);
      const ever = await get(`${roomPath(id, 'participants')}?limit=${MOST}`);
      const links = await get(`${roomPath(id, 'invites')}?limit=${MOST}`);
      const known = [
        ['Here now', String(details.online)], ['Observers', String(details.observers)],
        ['Expires', expiry.expired ? 'has expired' : expiry.seconds_remaining === null ? 'not while somebody is here' : `in ${span(expiry.seconds_remaining)}`],
        ['Idle after', span(details.idle_timeout_seconds)], ['When idle', details.on_idle], ['People at most', String(details.max_participants ?? 'any number')],
        ['Metadata', JSON.stringify(details.metadata)],
      ];
      facts.replaceChildren(...known.flatMap(([term, value]) => [make('dt', {}, term), make('dd', {}, value)]));
      const connections = new Map(here.items.map((member) => [member.id, member.connections]));
      const byPresence = (a, b) => b.online - a.online || (a.last_seen_at < b.last_seen_at ? 1 : -1);
      people.fill(ever.items.map((person) => ({ ...person, connections: connections.get(person.id) ?? 0 })).sort(byPresence), (person) => person.id);
      more.hidden = ever.next_cursor === null;
      invites.fill(links.items, (link) => link.id);
    },
  };
}
