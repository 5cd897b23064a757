// How things are said: times, names, news.

/** "3 min ago", by the server's clock. */
export function ago(time, now) {
  const seconds = Math.max(0, Math.round((now - Date.parse(time)) / 1000));
  if (seconds < 45) return 'just now';
  const minutes = Math.max(1, Math.round(seconds / 60));
  if (minutes < 60) return `${minutes} min ago`;
  const words = new Intl.RelativeTimeFormat('en');
  return minutes < 36 * 60 ? words.format(-Math.round(minutes / 60), 'hour') : words.format(-Math.round(minutes / 1440), 'day');
}

/** "4:59", or "1:04:59". */
export function clock(milliseconds) {
  const seconds = Math.max(0, Math.ceil(milliseconds / 1000));
  const parts = [Math.floor(seconds / 60) % 60, seconds % 60].map((part) => String(part).padStart(2, '0'));
  const hours = Math.floor(seconds / 3600);
  return hours ? `${hours}:${parts.join(':')}` : parts.join(':').replace(/^0/, '');
}

/** A hue from the id. OKLCH is as dark as it says at every hue (HSL is not: its yellows are too light), so white letters always show. */
export function colour(id) {
  let hash = 0;
  for (const character of id) hash = (hash * 31 + character.charCodeAt(0)) >>> 0;
  return `oklch(45% 0.11 ${hash % 360})`;
}

export function initials(name) {
  return name.trim().split(/\s+/).slice(0, 2).map((word) => [...word][0] ?? '').join('').toUpperCase();
}

export function element(tag, className, text = '') {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

/** Touches the page only where something changed: screen readers read what is written. */
export function write(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** Shows words, or hides the place for them. */
export function say(target, text = '') {
  write(target, text);
  target.hidden = !text;
}

/** Tells screen readers in small lots: a queue at the door is one sentence, not twenty interruptions. */
export function announcer(target) {
  const news = [];
  return (text) => {
    news.push(text);
    if (news.length > 1) return;
    setTimeout(() => {
      const words = news.splice(0);
      target.textContent = words.length > 4 ? `${words.length} people came or went` : words.join(', ');
    }, 400);
  };
}
