// A text cut into tokens, each coloured, that one walks through by pointer or by keyboard.
//
// It is a listbox: one stop of the Tab key, in which the arrow keys move, so that a text of a thousand tokens does not
// stand in anybody's way.

import { el, percent, spoken, visible } from './dom.js';

let number = 0;

/**
 * `label` names the text; `see(i)` is called when token i is under the pointer or the keyboard's focus; `say(i)` gives
 * what a screen reader adds to the token's text.
 */
export class Tokens {
  constructor(texts, { label, see, say = () => '', pin = false }) {
    number += 1;
    const id = (i) => `token-${this.number}-${i}`;
    this.number = number;
    this.see = see;
    this.say = say;
    this.pin = pin;
    this.at = -1;
    this.texts = texts;
    this.items = texts.map((text, i) => el('span', {
      role: 'option', id: id(i), 'aria-selected': 'false', 'aria-label': text.trim() ? null : spoken(text),
    }, text));
    this.node = el('div', { class: 'tokens prose', role: 'listbox', tabindex: 0, 'aria-label': label, 'aria-orientation': 'horizontal' }, this.items);
    this.node.addEventListener(pin ? 'click' : 'pointerover', (event) => this.point(event));
    if (!pin) this.node.addEventListener('click', (event) => this.point(event));
    this.node.addEventListener('keydown', (event) => this.key(event));
    this.node.addEventListener('focus', () => this.at < 0 && this.move(0));
  }

  point(event) {
    const i = this.items.indexOf(event.target.closest('[role="option"]'));
    if (i >= 0) this.move(i);
  }

  key(event) {
    const last = this.items.length - 1;
    const to = { ArrowRight: this.at + 1, ArrowLeft: this.at - 1, ArrowDown: this.at + 10, ArrowUp: this.at - 10, Home: 0, End: last }[event.key];
    if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.move(Math.max(0, Math.min(last, to)));
  }

  /** Goes to token `i`. */
  move(i, tell = true) {
    const [old, item] = [this.items[this.at], this.items[i]];
    if (!item) return;
    old?.classList.remove('on');
    old?.setAttribute('aria-selected', 'false');
    this.at = i;
    item.classList.add('on');
    item.setAttribute('aria-selected', 'true');
    item.setAttribute('aria-label', `${spoken(this.texts[i])}${this.say(i) ? `, ${this.say(i)}` : ''}`);
    this.node.setAttribute('aria-activedescendant', item.id);
    this.reveal(item);
    if (tell) this.see(i);
  }

  /** Scrolls the text, never the page, to a token. */
  reveal(item) {
    const node = this.node;
    if (node.scrollHeight <= node.clientHeight) return;
    const top = item.offsetTop - node.offsetTop;
    if (top < node.scrollTop || top + item.offsetHeight > node.scrollTop + node.clientHeight) {
      node.scrollTop = top - node.clientHeight / 2;
    }
  }

  /** Colours each token by a class; `classOf(i)` may be empty. */
  colour(classOf) {
    this.items.forEach((item, i) => {
      item.className = classOf(i);
      if (i === this.at) item.classList.add('on');
    });
  }
}

/** Classes of surprise in bits: 0 … 6. */
export const surpriseClass = (bits) => `w${bits < 1 ? 0 : bits < 2 ? 1 : bits < 4 ? 2 : bits < 6 ? 3 : bits < 9 ? 4 : 5}`;

/** Classes of a value from −1 to 1. */
export function valueClass(x) {
  const step = Math.min(4, Math.round(Math.abs(x) * 4));
  return step ? `${x < 0 ? 'n' : 'p'}${step}` : '';
}

/** Classes of a share from 0 to 1, finer where it is small. */
export const shareClass = (x) => (x < 0.02 ? '' : `s${Math.min(5, Math.ceil(Math.sqrt(x) * 5))}`);

/** One likely token, with a bar as long as it is likely. */
export function bar(choice, isIt = false) {
  return el('li', { class: isIt ? 'it' : '' }, share(choice));
}

/** A token, its share and a line as long as that, to be put into a list or on a button. */
export function share(choice) {
  const line = el('i', { 'aria-hidden': 'true' });
  line.style.setProperty('--share', choice.prob);
  return [el('span', { class: 'prose' }, visible(choice.text)), el('small', {}, percent(choice.prob)), line];
}
