// What is said when the door stays shut, or shuts: a page for each reason, with what a guest can do about it.

import { clock } from './words.js';

const SVG = 'http://www.w3.org/2000/svg';
/** Drawn, not emoji: they look the same everywhere. */
const PICTURES = {
  hourglass: 'M6 3h12M6 21h12M7 3c0 5 4 6 5 9-1 3-5 4-5 9M17 3c0 5-4 6-5 9 1 3 5 4 5 9',
  barred: 'M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18M5.7 5.7l12.6 12.6',
  ticket: 'M3 7h18v3a2 2 0 0 0 0 4v3H3v-3a2 2 0 0 0 0-4zM14 7v2M14 11v2M14 15v2',
  link: 'M9 7H7a5 5 0 0 0 0 10h2M15 7h2a5 5 0 0 1 0 10h-2M4 3l16 18',
  door: 'M4 21h16M6 21V3h12v18M14 12v1',
  crowd: 'M9 11a3.5 3.5 0 1 0 0-7a3.5 3.5 0 0 0 0 7M2 20c0-4 3-6 7-6s7 2 7 6M16 4.5a3.5 3.5 0 0 1 0 6M18 14.5c2.5.8 4 2.6 4 5.5',
  wait: 'M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18M12 7v5l3 3',
  wave: 'M9 4H5v16h4M10 12h10M16 8l4 4-4 4',
  key: 'M8 15a4 4 0 1 0 0-8a4 4 0 0 0 0 8M12 11h9M18 11v3M21 11v2',
  cable: 'M4 12h5M15 12h5M9 8v8M15 8v8M11 12h.5M13 12h.5',
  alert: 'M12 3L2 20h20zM12 9v5M12 17v.5',
};

const NEW_LINK = 'Ask whoever invited you for a new link.';
/** Code → picture, title, and what to do. */
const PAGES = {
  invite_expired: ['hourglass', 'This link has run out', NEW_LINK],
  invite_revoked: ['barred', 'This link was taken back', NEW_LINK],
  invite_used_up: ['ticket', 'This link has been used', 'It was good for a few people only. If you were one of them, open it in the browser you used then.'],
  invite_not_found: ['link', 'This link leads nowhere', 'Links break when they are cut in two by a message: see that you have all of it.'],
  room_not_found: ['door', 'There is no such room', NEW_LINK],
  room_expired: ['hourglass', 'This room has ended', 'Make a new one, or ask for a link into it.'],
  room_closed: ['door', 'This room was closed', 'Whoever runs it has closed it for everybody.'],
  removed: ['barred', 'You were asked to leave', 'Whoever runs this room has removed you from it.'],
  room_full: ['crowd', 'This room is full', 'Come back when somebody has left.', true],
  too_many_connections: ['crowd', 'You are here already', 'This room is open in too many tabs. Close one and try again.', true],
  room_forbidden: ['key', 'This is another room', 'Your access is for a different one.'],
  origin_forbidden: ['barred', 'This page may not come in', 'The server does not know the site that this page is from.'],
  credential_missing: ['key', 'There is no invitation in this link', NEW_LINK],
  credential_invalid: ['key', 'This access is not valid', NEW_LINK],
  credential_expired: ['hourglass', 'Your access has run out', 'Sign in again where you came from.'],
  token_expired: ['hourglass', 'Your access has run out', 'Sign in again where you came from.'],
  rate_limited: ['wait', 'One moment', 'There were a few tries too many.', true],
  overloaded: ['wait', 'It is busy here', 'Many people want to come in at this moment.', true],
  draining: ['wait', 'Back in a moment', 'The server is being replaced by a newer one.', true],
  store_unavailable: ['wait', 'Back in a moment', 'The server cannot reach its memory. Whoever is inside notices nothing.', true],
  keys_unavailable: ['wait', 'Back in a moment', 'The server cannot check who you are just now.', true],
  upgrade_missing: ['cable', 'The connection does not open', 'A proxy between you and the server may not let it through. Another network may help.', true],
  unreachable: ['cable', 'Nobody answers', 'Look whether you are online.', true],
  left: ['wave', 'You left', 'Your seat is free. The link brings you back.', true],
};
const OTHER = ['alert', 'Something went wrong', 'Try again, or ask for a new link.', true];

/**
 * Fills the page with a refusal. Where waiting may help, it counts down to the next try, which the page makes by itself.
 *
 * @param {{ code: string, detail: string, isPassing?: boolean, retryAfter?: number }} refusal
 * @param {() => void} retry
 */
export function showRefusal(page, { code, detail, isPassing, retryAfter }, retry) {
  const [picture, title, advice, mayRetry] = PAGES[code] ?? OTHER;
  const find = (part) => page.querySelector(`#problem-${part}`);
  find('icon').replaceChildren(draw(PICTURES[picture]));
  find('title').textContent = title;
  find('detail').textContent = code === 'left' ? advice : detail;
  find('advice').textContent = code === 'left' ? '' : advice;
  const isNews = find('code').textContent !== code;
  find('code').textContent = code;
  const button = page.querySelector('#retry');
  let timer;
  button.hidden = !mayRetry;
  const words = code === 'left' ? 'Come back in' : 'Try again';
  button.textContent = words;
  button.onclick = again;
  document.title = `${title} · Rollcall`;
  // Trying again by itself, it must not take people away from where they are.
  if (isNews) find('title').focus();
  if (!isPassing) return;
  const due = Date.now() + (retryAfter ?? 5_000);
  timer = setInterval(count, 250);
  count();

  function count() {
    const left = due - Date.now();
    button.textContent = left > 0 ? `${words} (${clock(left)})` : words;
    if (left <= 0) again();
  }

  function again() {
    clearInterval(timer);
    retry();
  }
}

function draw(line) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', line);
  svg.append(path);
  return svg;
}
