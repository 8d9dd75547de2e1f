// The logit lens: what each block would say next if it were the last.

import { el, percent, visible } from './dom.js';
import { shareClass } from './tokens.js';

export class Lens {
  /** `see(i)` is told of a position that is chosen. */
  constructor(found, shown, see) {
    Object.assign(this, { found, shown });
    this.table = this.overview(see);
    this.heading = el('h3', {});
    this.detail = el('table', { class: 'lens' });
    this.node = el('section', { class: 'part', 'aria-labelledby': 'lens-heading' },
      el('h2', { id: 'lens-heading' }, 'What each block would say next'),
      el('p', { class: 'intro' }, 'The stream can be read after any block as if it were the last; this is called the logit lens. Early blocks mostly guess from the last token alone; block by block the guess comes to what the model says in the end. The stronger the colour, the surer; underlined is the token that did come.'),
      el('div', { class: 'scroll', tabindex: 0, role: 'group', 'aria-label': 'The likeliest token after every block, place by place' }, this.table),
      this.heading, el('div', { class: 'scroll', tabindex: 0, role: 'group', 'aria-label': 'The likeliest tokens at the chosen place' }, this.detail));
  }

  name(layer) {
    return layer ? `Block ${layer}` : 'No block';
  }

  overview(see) {
    this.columns = this.shown.map(() => []);
    const head = this.shown.map((text, i) => {
      const button = el('button', { class: 'plain prose', onclick: () => see(i), 'aria-label': `Place ${i + 1}, after ${text}` }, text);
      const cell = el('th', { scope: 'col' }, button);
      this.columns[i].push(cell);
      return cell;
    });
    const rows = this.found.lens.map((places, layer) => el('tr', {}, el('th', { scope: 'row' }, this.name(layer)),
      places.map((place, i) => {
        const [best] = place.top;
        const cell = el('td', { class: `prose ${shareClass(best.prob)}${this.came(best, i) ? ' it' : ''}` }, visible(best.text));
        this.columns[i].push(cell);
        return cell;
      })));
    return el('table', { class: 'lens grid' }, el('thead', {}, el('tr', {}, el('th', { scope: 'col' }, 'After'), head)), el('tbody', {}, rows));
  }

  came(choice, i) {
    return choice.id === this.found.tokens[i + 1]?.id;
  }

  /** All about position `i`. */
  show(i) {
    this.columns[this.at]?.forEach((cell) => cell.classList.remove('here'));
    this.at = i;
    this.columns[i].forEach((cell) => cell.classList.add('here'));
    const next = this.found.tokens[i + 1];
    this.heading.replaceChildren('After ', el('span', { class: 'prose' }, this.shown[i]),
      next ? ' came ' : ' the text ends', next ? el('span', { class: 'prose' }, visible(next.text)) : '');
    const rows = this.found.lens.map((places, layer) => {
      const { top, next: share, rank } = places[i];
      const told = rank === null ? '' : `${percent(share)}, place ${rank + 1}`;
      return el('tr', {}, el('th', { scope: 'row' }, this.name(layer)),
        top.map((choice) => el('td', { class: `prose ${shareClass(choice.prob)}${this.came(choice, i) ? ' it' : ''}` }, visible(choice.text), el('small', {}, percent(choice.prob)))),
        el('td', { class: 'told' }, told));
    });
    const titles = ['After', ...this.found.lens[0][i].top.map((_, n) => (n ? `${n + 1}.` : 'Likeliest')), 'What came'];
    this.detail.replaceChildren(el('thead', {}, el('tr', {}, titles.map((title) => el('th', { scope: 'col' }, title)))), el('tbody', {}, rows));
  }
}
