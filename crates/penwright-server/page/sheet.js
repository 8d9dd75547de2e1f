// The sheet: a text that remembers who wrote which part of it, with its own undo, since a browser's forgets what a
// script has written.
//
// A textarea stands on top of a copy of its text: one writes in the textarea, whose letters are transparent, and sees
// those of the copy, which can be coloured. Both have the same letters at the same places.

import { el, later, memory } from './dom.js';

/** Steps that can be undone. */
const STEPS = 200;
/** Milliseconds of typing that are one step. */
const BURST = 1200;

export class Sheet {
  /** `onchange` is called after every change, whoever made it. */
  constructor(place, onchange) {
    this.area = el('textarea', {
      'aria-label': 'Your text', spellcheck: 'false', placeholder: 'Begin with a sentence, and let the model go on …',
      'aria-keyshortcuts': 'Control+Enter', 'aria-describedby': 'write-note',
    });
    this.copy = el('div', { class: 'copy', 'aria-hidden': 'true' });
    place.append(this.copy, this.area);
    this.onchange = onchange;
    const saved = memory.get('sheet', {});
    this.text = typeof saved.text === 'string' ? saved.text : '';
    this.runs = valid(saved.runs, this.text.length) ? saved.runs : [[this.text.length, '']];
    this.past = [];
    this.future = [];
    this.typed = 0;
    this.save = later(() => memory.set('sheet', { text: this.text, runs: this.runs }), 300);
    this.area.value = this.text;
    this.area.setSelectionRange(this.text.length, this.text.length);
    this.area.addEventListener('input', () => this.type());
    this.draw();
  }

  /** Where the model writes: after the cursor, or at the end. */
  get place() {
    return this.area.selectionEnd ?? this.text.length;
  }

  get before() {
    return this.text.slice(0, this.place);
  }

  /** Where the text ends in the window, in pixels from its top. */
  get bottom() {
    const range = document.createRange();
    range.selectNodeContents(this.copy.lastChild);
    return range.getBoundingClientRect().bottom;
  }

  /** Nobody types while a model writes. */
  set locked(locked) {
    this.area.readOnly = locked;
  }

  /** What was typed is what differs between the text before and now. */
  type() {
    const [old, now] = [this.text, this.area.value];
    let start = 0;
    const shorter = Math.min(old.length, now.length);
    while (start < shorter && old[start] === now[start]) start += 1;
    let same = 0;
    while (same < shorter - start && old[old.length - 1 - same] === now[now.length - 1 - same]) same += 1;
    const time = Date.now();
    if (time - this.typed > BURST) this.remember();
    this.typed = time;
    this.runs = splice(this.runs, start, old.length - same, now.length - same - start, '');
    this.text = now;
    this.changed();
  }

  /** Begins a step that can be undone. */
  remember() {
    this.past.push({ text: this.text, runs: this.runs, place: this.place });
    if (this.past.length > STEPS) this.past.shift();
    this.future = [];
    this.typed = 0;
  }

  /** Puts in what `who` has written, at `place`, and the cursor behind it. Returns where that is. */
  insert(place, text, who) {
    this.runs = splice(this.runs, place, place, text.length, who);
    this.text = this.text.slice(0, place) + text + this.text.slice(place);
    this.show(place + text.length);
    return place + text.length;
  }

  undo() {
    this.move(this.past, this.future);
  }

  redo() {
    this.move(this.future, this.past);
  }

  move(from, to) {
    const step = from.pop();
    if (!step) return;
    to.push({ text: this.text, runs: this.runs, place: this.place });
    Object.assign(this, { text: step.text, runs: step.runs, typed: 0 });
    this.show(step.place);
  }

  show(place) {
    this.area.value = this.text;
    this.area.setSelectionRange(place, place);
    this.changed();
  }

  changed() {
    this.draw();
    this.save();
    this.onchange();
  }

  draw() {
    let at = 0;
    const parts = this.runs.map(([length, who]) => {
      const text = this.text.slice(at, (at += length));
      return who ? el('span', { class: 'written' }, text) : text;
    });
    // A line that has only begun has its height in a textarea, but not in an element.
    this.copy.replaceChildren(...parts, '\u200b');
  }
}

/** Puts `length` characters by `who` in the place of those from `start` to `end`. */
function splice(runs, start, end, length, who) {
  const out = [];
  const push = (n, by) => {
    if (n <= 0) return;
    if (out.at(-1)?.[1] === by) out[out.length - 1] = [out.at(-1)[0] + n, by];
    else out.push([n, by]);
  };
  let at = 0;
  let done = false;
  for (const [n, by] of runs) {
    push(Math.min(at + n, start) - at, by);
    if (!done && at + n >= start) {
      push(length, who);
      done = true;
    }
    push(at + n - Math.max(at, end), by);
    at += n;
  }
  if (!done) push(length, who);
  return out;
}

function valid(runs, length) {
  return Array.isArray(runs) && runs.every((run) => run[0] > 0) && runs.reduce((sum, run) => sum + run[0], 0) === length;
}
