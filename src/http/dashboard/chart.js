// A line chart over the last hour, drawn by the browser: SVG, no library. What a pointer or the arrow keys are at is read out.

import { make } from './parts.js';

const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 480;
const HEIGHT = 150;
const LEFT = 44;
const BOTTOM = 20;
const TOP = 8;
/** How much of the past is shown. */
export const HOUR = 3_600_000;

function draw(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** The least round number that is not below it: 1, 2 or 5 times a power of ten. */
export function ceiling(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * power >= value) * power;
}

const short = (value) => (value >= 1_000 ? `${+(value / 1_000).toFixed(1)}k` : String(+value.toFixed(value < 10 ? 2 : 0)));

export class Chart {
  /** A slider over time: screen readers pass it the arrow keys, and read out where it is. */
  #svg = draw('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'slider', tabindex: '0', 'aria-valuemin': 0, 'aria-valuemax': 0, 'aria-valuenow': 0 });
  #read = make('p', { class: 'reading', 'aria-hidden': 'true' });
  #series;
  #unit;
  #title;
  #isCounted;
  #samples = [];
  #at = null;

  /** @param series [name, read(sample) → number or null] @param isCounted whether these are whole numbers */
  constructor(title, unit, series, isCounted = false) {
    this.#title = title;
    this.#isCounted = isCounted;
    this.#unit = unit;
    this.#series = series;
    const keys = series.map(([name], index) => make('span', { class: `key line-${index}` }, name));
    this.element = make('figure', { class: 'card chart' }, make('figcaption', {}, title, ' ', make('span', { class: 'unit' }, unit)), this.#svg, make('p', { class: 'keys' }, ...keys), this.#read);
    this.#svg.addEventListener('pointermove', (event) => this.#point(event));
    this.#svg.addEventListener('pointerleave', () => this.#look(null));
    this.#svg.addEventListener('blur', () => this.#look(null));
    this.#svg.addEventListener('keydown', (event) => this.#step(event));
  }

  show(samples) {
    this.#samples = samples;
    this.#draw();
  }

  #value(sample, read) {
    return read(sample) ?? null;
  }

  #draw() {
    const end = this.#samples.length ? Date.parse(this.#samples.at(-1).at) : Date.now();
    const start = Math.max(end - HOUR, this.#samples.length ? Math.min(Date.parse(this.#samples[0].at), end - 60_000) : end - HOUR);
    const values = this.#samples.flatMap((sample) => this.#series.map(([, read]) => this.#value(sample, read) ?? 0));
    const top = ceiling(Math.max(0, ...values));
    const x = (sample) => LEFT + ((Date.parse(sample.at) - start) / (end - start)) * (WIDTH - LEFT - 4);
    const y = (value) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM);
    // There is no half a connection.
    const ticks = this.#isCounted && top % 2 ? [0, top] : [0, top / 2, top];
    const parts = ticks.flatMap((value) => {
      const label = draw('text', { x: LEFT - 6, y: y(value) + 4, 'text-anchor': 'end' });
      label.textContent = short(value);
      return [draw('line', { x1: LEFT, x2: WIDTH - 4, y1: y(value), y2: y(value), class: 'grid' }), label];
    });
    const minutes = Math.round((end - start) / 60_000);
    for (const [text, place, anchor] of [[`${minutes} min ago`, LEFT, 'start'], ['now', WIDTH - 4, 'end']]) {
      const label = draw('text', { x: place, y: HEIGHT - 4, 'text-anchor': anchor });
      label.textContent = text;
      parts.push(label);
    }
    this.#series.forEach(([, read], index) => {
      const points = this.#samples.filter((sample) => this.#value(sample, read) !== null).map((sample) => [x(sample).toFixed(1), y(this.#value(sample, read)).toFixed(1)]);
      const [[cx, cy] = []] = points;
      // No line can be seen of one point.
      parts.push(points.length === 1
        ? draw('circle', { cx, cy, r: 2.5, class: `dot line-${index}` })
        : draw('polyline', { points: points.join(' '), class: `line line-${index}` }));
    });
    const at = this.#at === null ? null : this.#samples[this.#at];
    if (at) parts.push(draw('line', { x1: x(at), x2: x(at), y1: TOP, y2: HEIGHT - BOTTOM, class: 'at' }));
    this.#svg.replaceChildren(...parts);
    const last = this.#samples.length - 1;
    const reading = at ? `${new Date(at.at).toLocaleTimeString()}: ${this.#say(at)}` : '';
    const words = { 'aria-label': this.#words(), 'aria-valuemax': Math.max(0, last), 'aria-valuenow': Math.max(0, this.#at ?? last), 'aria-valuetext': reading || 'now' };
    for (const [name, value] of Object.entries(words)) this.#svg.setAttribute(name, value);
    this.#read.textContent = reading;
  }

  #say(sample) {
    return this.#series.map(([name, read]) => `${name} ${this.#value(sample, read) === null ? 'none' : short(this.#value(sample, read))}`).join(', ');
  }

  /** The chart in a sentence, for whoever does not see it. */
  #words() {
    if (!this.#samples.length) return `${this.#title}: nothing yet`;
    const most = this.#series.map(([name, read]) => `${name} at most ${short(Math.max(...this.#samples.map((sample) => this.#value(sample, read) ?? 0)))}`);
    return `${this.#title} in ${this.#unit}. Now: ${this.#say(this.#samples.at(-1))}. In the time shown: ${most.join(', ')}.`;
  }

  #point(event) {
    if (!this.#samples.length) return;
    const box = this.#svg.getBoundingClientRect();
    const part = ((event.clientX - box.left) / box.width * WIDTH - LEFT) / (WIDTH - LEFT - 4);
    this.#look(Math.round(Math.min(1, Math.max(0, part)) * (this.#samples.length - 1)));
  }

  #step(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (!step || !this.#samples.length) return;
    event.preventDefault();
    const last = this.#samples.length - 1;
    this.#look(Math.min(last, Math.max(0, (this.#at ?? last) + step)));
  }

  #look(at) {
    if (this.#at === at) return;
    this.#at = at;
    this.#draw();
  }
}
