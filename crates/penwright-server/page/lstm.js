// Inside an LSTM: its cell with live values, the text coloured by a cell, and the cells that follow the text.

import { announce, el, percent, signed, spoken, visible } from './dom.js';
import { post } from './api.js';
import { cellKey, drawCell } from './cell.js';
import { drawStrip } from './strip.js';
import { bar, Tokens, valueClass } from './tokens.js';
import { trouble } from './trouble.js';

const FOLLOWERS = 4;
const LIKELIEST = 5;

const PROPERTIES = {
  quotation: ['Quotations', 'whether a quotation is open'],
  dialogue: ['Dialogue', 'whether somebody has begun to speak in the paragraph'],
  line: ['Line', 'how far the line has come'],
  sentence: ['Sentence', 'how far the sentence has come'],
  word: ['Word', 'how far the word has come'],
  space: ['Space', 'white space was just read'],
  capital: ['Capital', 'a capital was just read'],
};

/** Shows the inside of `model` as it reads `text`, in `place`. Returns what to call on leaving. */
export async function showLstm(place, model, text) {
  const found = await post('/api/inside/lstm', { model: model.id, text, cells: [], follow: FOLLOWERS, top: LIKELIEST });
  const view = new LstmView(place, model, text, found);
  const best = found.follows.find((follows) => follows.cells.length)?.cells[0] ?? { layer: found.widths.length - 1, cell: 0 };
  await view.choose(best.layer, best.cell);
  return () => view.pause();
}

/** Words for screen readers alone. */
const hidden = (text) => el('span', { class: 'hidden' }, text);

class LstmView {
  constructor(place, model, text, found) {
    Object.assign(this, { model, text, found, timer: null, values: null });
    this.tokens = new Tokens(found.tokens.map((token) => token.text), {
      label: 'The text, coloured by the cell; arrow keys move from token to token',
      see: (i) => this.show(i), say: (i) => (this.values ? `cell value ${signed(this.values.cell[i][0])}` : ''), pin: true,
    });
    this.cell = drawCell();
    this.strip = drawStrip();
    this.story = el('p', { class: 'story' });
    this.next = el('ul', { class: 'bars' });
    this.name = el('h3', {});
    place.replaceChildren(this.explained(), this.running(), this.followed());
  }

  explained() {
    const rounds = this.found.mogrifier
      ? ` This model is a Mogrifier: before the gates, x and h scale each other in ${this.found.mogrifier} rounds.` : '';
    return el('section', { class: 'part', 'aria-labelledby': 'lstm-heading' },
      el('h2', { id: 'lstm-heading' }, 'An LSTM cell, as the text runs through it'),
      el('p', { class: 'intro' },
        'An LSTM reads one token after another and keeps a memory: one number c in each of its cells. At every token four small networks look at the token (x) and at what the cells showed before (h). ',
        el('b', {}, 'Forget'), ' says how much of c stays. ', el('b', {}, 'Candidate'), ' is something new, and ', el('b', {}, 'input'),
        ' says how much of it is written. ', el('b', {}, 'Output'), ' says how much of c is shown to the next layer and to the next step. So a cell can keep a value over hundreds of tokens, as long as its forget gate stays near 1.', rounds));
  }

  running() {
    const button = (label, text, move) => el('button', { 'aria-label': label, onclick: move }, text);
    this.playing = el('button', { class: 'main', onclick: () => (this.timer ? this.pause() : this.play()) }, 'Play');
    this.scrub = el('input', {
      type: 'range', min: 0, max: this.found.tokens.length - 1, value: 0, 'aria-label': 'Place in the text',
      oninput: () => this.go(Number(this.scrub.value)),
    });
    this.speed = el('select', { 'aria-label': 'Tokens a second', onchange: () => this.timer && (this.pause(), this.play()) },
      [2, 5, 10, 25].map((n) => el('option', { value: n, selected: n === 5 }, `${n} a second`)));
    return el('section', { class: 'part', 'aria-label': 'The text running through a cell' },
      this.picker(),
      el('div', { class: 'row player' },
        button('One token back', '‹', () => this.step(-1)), this.playing, button('One token on', '›', () => this.step(1)), this.scrub, this.speed),
      el('div', { class: 'scale' }, 'the cell’s value: ', el('ul', {},
        [['n4', '−1'], ['n2', '−0.5'], ['', '0'], ['p2', '0.5'], ['p4', '1']].map(([name, text]) => el('li', { class: name }, text)))),
      this.tokens.node,
      el('div', { class: 'cell-view' },
        el('figure', {}, this.cell.node, cellKey()),
        el('div', {}, this.story, el('h4', {}, 'What it expects next'), this.next)),
      el('figure', { class: 'scroll', tabindex: 0, role: 'group', 'aria-label': 'The cell’s values around the place in the text' }, this.strip.node));
  }

  picker() {
    this.layer = el('select', { id: 'cell-layer', onchange: () => this.pick() },
      this.found.widths.map((_, i) => el('option', { value: i }, String(i + 1))));
    this.number = el('input', { id: 'cell-number', type: 'number', min: 0, value: 0, onchange: () => this.pick() });
    return el('div', { class: 'row' }, this.name, el('span', { class: 'grow' }),
      el('label', { for: 'cell-layer' }, 'Layer'), this.layer, el('label', { for: 'cell-number' }, 'Cell'), this.number);
  }

  pick() {
    const layer = Number(this.layer.value);
    const cell = Math.max(0, Math.min(this.found.widths[layer] - 1, Math.floor(Number(this.number.value)) || 0));
    this.choose(layer, cell);
  }

  /** Takes another cell. */
  async choose(layer, cell) {
    try {
      const request = { model: this.model.id, text: this.text, layer, cells: [cell] };
      this.values = await post('/api/inside/lstm', request);
    } catch (error) {
      return trouble(error.message);
    }
    this.layer.value = layer;
    this.number.max = this.found.widths[layer] - 1;
    this.number.value = cell;
    this.name.textContent = `Layer ${layer + 1}, cell ${cell}`;
    this.tokens.colour((i) => valueClass(Math.tanh(this.values.cell[i][0])));
    for (const button of this.buttons) {
      button.setAttribute('aria-pressed', String(button.dataset.cell === `${layer}.${cell}`));
    }
    this.go(Math.max(0, this.tokens.at));
  }

  step(by) {
    this.pause();
    this.go(this.tokens.at + by);
    announce(this.story.textContent);
  }

  go(i) {
    const last = this.found.tokens.length - 1;
    this.tokens.move(Math.max(0, Math.min(last, i)));
  }

  play() {
    if (this.tokens.at >= this.found.tokens.length - 1) this.go(0);
    this.playing.textContent = 'Pause';
    this.timer = setInterval(() => {
      // The view may be gone, or the text at its end.
      if (!this.tokens.node.isConnected || this.tokens.at >= this.found.tokens.length - 1) return this.pause();
      this.go(this.tokens.at + 1);
    }, 1000 / Number(this.speed.value));
  }

  pause() {
    clearInterval(this.timer);
    this.timer = null;
    this.playing.textContent = 'Play';
  }

  /** The values at token `i`. */
  at(i) {
    const names = ['input', 'forget', 'candidate', 'output', 'before', 'cell', 'hidden'];
    return Object.fromEntries(names.map((name) => [name, this.values[name][i][0]]));
  }

  show(i) {
    if (!this.values) return;
    const v = this.at(i);
    this.scrub.value = i;
    this.scrub.setAttribute('aria-valuetext', `token ${i + 1} of ${this.found.tokens.length}, ${spoken(this.found.tokens[i].text)}`);
    this.cell.show(v, visible(this.found.tokens[i].text));
    this.strip.show(this.found.tokens.map((token) => token.text), this.values, i);
    this.story.replaceChildren('Reading ', el('b', { class: 'prose' }, visible(this.found.tokens[i].text)),
      `, the cell keeps ${percent(v.forget)} of ${signed(v.before)} and writes ${percent(v.input)} of ${signed(v.candidate)}: `,
      el('b', {}, `c is now ${signed(v.cell)}`), `. It shows ${percent(v.output)} of its tanh, ${signed(Math.tanh(v.cell))}: `,
      el('b', {}, `h is ${signed(v.hidden)}`), '.');
    this.next.replaceChildren(...(this.found.next[i] ?? []).map((choice) => bar(choice)));
  }

  followed() {
    this.buttons = [];
    const rows = this.found.follows.filter((follows) => follows.cells.length).map((follows) => this.property(follows));
    const tokens = this.found.tokens.length;
    const none = el('p', { class: 'note' }, 'Nothing in this text changes often enough to be followed; let the model write a longer one.');
    const short = tokens < 400
      ? ` This text has only ${tokens} tokens: by chance alone some cell will follow anything in it; a longer one says more.` : '';
    return el('section', { class: 'part', 'aria-labelledby': 'follow-heading' },
      el('h2', { id: 'follow-heading' }, 'Cells that follow the text'),
      el('p', { class: 'intro' },
        'Nobody told the cells what to remember, yet some follow what anyone can see. Each number is a correlation, from −1 to 1: the cells are those of the highest in the text’s first half, and beside it stands that in the second half, which had no part in the choice.', short),
      rows.length ? el('dl', { class: 'follows' }, rows) : none);
  }

  property(follows) {
    const [name, what] = PROPERTIES[follows.property] ?? [follows.property, ''];
    const buttons = follows.cells.map(({ layer, cell, chosen, unseen }) => {
      const button = el('button', {
        'data-cell': `${layer}.${cell}`, 'aria-pressed': 'false', onclick: () => this.choose(layer, cell),
      }, el('span', {}, hidden('layer and cell '), `${layer + 1} · ${cell}`, hidden(': ')), el('b', {}, signed(chosen)),
      el('small', {}, hidden(' first, '), unseen === null ? '–' : signed(unseen), hidden(' second half')));
      this.buttons.push(button);
      return button;
    });
    return el('div', {}, el('dt', {}, name, el('small', {}, what)), el('dd', { class: 'row' }, buttons));
  }
}
