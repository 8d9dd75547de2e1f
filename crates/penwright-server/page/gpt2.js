// Inside a GPT-2: where its heads look, and what each of its blocks would say next.

import { el, percent, spoken, visible } from './dom.js';
import { post } from './api.js';
import { drawBlock } from './block.js';
import { Lens } from './lens.js';
import { drawMatrix } from './matrix.js';
import { bar, shareClass, Tokens } from './tokens.js';
import { trouble } from './trouble.js';

const LIKELIEST = 5;
/** Tokens that a head looks at most, told in words. */
const SEEN = 5;
/** A head does something in particular when so much of its weight lies there, and so many times what chance has. */
const MAINLY = 0.1;
const TIMES = 2;

const JOBS = {
  previous: ['‹', 'the token before'],
  itself: ['•', 'the token itself'],
  first: ['⇤', 'the first place, that is: it rests'],
  same: ['=', 'the same token earlier'],
  after_same: ['↷', 'what came after the same token earlier'],
  mixed: ['∼', 'nothing in particular'],
};

/** Shows the inside of `model` as it reads `text`, in `place`. Returns what to call on leaving. */
export async function showGpt2(place, model, text) {
  const found = await post('/api/inside/gpt2', { model: model.id, text, beginning: true, layers: [], top: LIKELIEST });
  const view = new Gpt2View(place, model, text, found);
  await view.choose(...view.interesting());
  view.tokens.move(Math.min(found.tokens.length - 1, Math.ceil(found.tokens.length / 2)));
  return () => {};
}

/** What a head looks at most, of that which it looks at more than one that looks at all tokens alike. */
function job(head, even) {
  const more = Object.entries(head).filter(([name, share]) => share >= MAINLY && share >= TIMES * even[name]);
  return more.reduce((best, entry) => (entry[1] > best[1] ? entry : best), ['mixed', 0])[0];
}

/** What a head would look at that looked at all tokens alike, as the server counts it. */
function evenly(tokens) {
  const sums = { itself: 0, previous: 0, first: 0, same: 0, after_same: 0 };
  let places = 0;
  for (let t = 2; t < tokens.length; t += 1) {
    const again = tokens.slice(0, t).filter((token) => token.id === tokens[t].id).length;
    for (const name of Object.keys(sums)) sums[name] += (name.endsWith('same') ? again : 1) / (t + 1);
    places += 1;
  }
  return Object.fromEntries(Object.entries(sums).map(([name, sum]) => [name, sum / Math.max(1, places)]));
}

class Gpt2View {
  constructor(place, model, text, found) {
    Object.assign(this, { model, text, found, layers: new Map(), layer: 0, head: 0 });
    this.texts = found.tokens.map((token, i) => (i ? token.text : '⟨start⟩'));
    this.shown = this.texts.map((text, i) => (i ? visible(text) : text));
    this.tokens = new Tokens(this.texts, {
      label: 'The text, coloured by where the head looks from the chosen token; arrow keys move from token to token',
      see: (i) => this.show(i), say: (i) => this.says(i), pin: true,
    });
    this.matrix = drawMatrix((i) => this.tokens.move(i));
    this.looks = el('ul', { class: 'bars' });
    this.story = el('p', { class: 'story' });
    this.name = el('h3', {});
    this.lens = new Lens(found, this.shown, (i) => this.tokens.move(i));
    place.replaceChildren(this.explained(), this.attending(), this.lens.node);
  }

  explained() {
    const { layers, heads, context, tokens } = this.found;
    const read = tokens.slice(1).reduce((sum, token) => sum + token.text.length, 0);
    const cut = read < this.text.length
      ? el('p', { class: 'notice' }, `Only the first ${tokens.length - 1} tokens of the text were read: more do not fit${tokens.length >= context ? ' into the context of this model' : ' into this picture'}.`) : null;
    return el('section', { class: 'part', 'aria-labelledby': 'gpt2-heading' },
      el('h2', { id: 'gpt2-heading' }, 'A decoder block, and how a text goes through it'),
      el('div', { class: 'cell-view' },
        el('figure', {}, drawBlock(layers)),
        el('div', {},
          el('p', {}, 'Every token is a row of numbers, its place in the text added in. The row runs straight through all blocks, and each block adds something to it. That straight way is called the ', el('b', {}, 'residual stream'), '.'),
          el('p', {}, el('b', {}, 'Attention'), ` comes first. Each of its ${heads} heads asks of every token before: how much does it matter here? The answers are weights that add up to 1, never for tokens still to come, and the head brings over what those tokens hold in that proportion.`),
          el('p', {}, el('b', {}, 'The feed-forward network'), ' comes second. It looks at one place only and works out what follows from what attention has gathered there.'),
          el('p', {}, 'After the last block the row is compared with every token of the vocabulary: the better they fit, the likelier the token comes next.'),
          cut)));
  }

  /** The head with which to begin: one that looks at something in particular. */
  interesting() {
    let best = [0, 0, -1];
    this.found.summary.forEach((heads, layer) => heads.forEach((head, i) => {
      const merit = Math.max(head.after_same, head.same, head.previous) - head.first;
      if (merit > best[2]) best = [layer, i, merit];
    }));
    return best.slice(0, 2);
  }

  attending() {
    return el('section', { class: 'part', 'aria-labelledby': 'heads-heading' },
      el('h2', { id: 'heads-heading' }, 'Where the heads look'),
      el('p', { class: 'intro' }, 'Every sign is one head; it tells what the head looked at in this text more than chance has it. Choose a head, then a token: what the head looks at from there is coloured.'),
      el('div', { class: 'scroll', tabindex: 0, role: 'group', 'aria-label': 'The heads of all blocks' }, this.grid()),
      el('ul', { class: 'jobs' }, Object.entries(JOBS).map(([name, [sign, what]]) => el('li', {}, el('span', { class: `job ${name}`, 'aria-hidden': 'true' }, sign), ` ${what}`))),
      this.name, this.tokens.node,
      el('div', { class: 'cell-view' },
        el('figure', {}, this.matrix.node, el('figcaption', { class: 'note' }, 'Each row is a token, and each column one that it looks at; the stronger the colour, the more.')),
        el('div', {}, this.story, this.looks)));
  }

  grid() {
    this.buttons = [];
    const even = evenly(this.found.tokens);
    const cell = (layer, head, i) => {
      const what = job(head, even);
      const [sign, words] = JOBS[what];
      const share = what === 'mixed' ? '' : `, ${percent(head[what])} of its weight, ${(head[what] / even[what]).toFixed(1)} times what chance has`;
      const button = el('button', {
        class: `job ${what}`, 'aria-pressed': 'false', 'aria-label': `Block ${layer + 1}, head ${i + 1}: ${words}${share}`,
        title: `${words}${share}`, onclick: () => this.choose(layer, i), 'data-head': `${layer}.${i}`,
      }, sign);
      this.buttons.push(button);
      return el('td', {}, button);
    };
    const rows = this.found.summary.map((heads, layer) => el('tr', {}, el('th', { scope: 'row' }, `Block ${layer + 1}`), heads.map((head, i) => cell(layer, head, i))));
    const head = el('tr', {}, el('td', {}), this.found.summary[0].map((_, i) => el('th', { scope: 'col' }, String(i + 1))));
    return el('table', { class: 'heads' }, el('thead', {}, head), el('tbody', {}, rows));
  }

  /** Takes another head; a block's attention is asked for once. */
  async choose(layer, head) {
    try {
      if (!this.layers.has(layer)) {
        const request = { model: this.model.id, text: this.text, beginning: true, layers: [layer], top: 0 };
        const { attention, tokens } = await post('/api/inside/gpt2', request);
        // Without the lens a longer beginning may have fitted.
        this.layers.set(layer, attention[0].weights.map((rows) => rows.slice(0, Math.min(tokens.length, this.texts.length))));
      }
    } catch (error) {
      return trouble(error.message);
    }
    Object.assign(this, { layer, head });
    for (const button of this.buttons) button.setAttribute('aria-pressed', String(button.dataset.head === `${layer}.${head}`));
    this.name.textContent = `Block ${layer + 1}, head ${head + 1}`;
    if (this.tokens.at >= 0) this.show(this.tokens.at);
    else this.matrix.show(this.rows, 0);
  }

  get rows() {
    return this.layers.get(this.layer)?.[this.head];
  }

  says(i) {
    const row = this.rows?.[i];
    if (!row) return '';
    return `looks at ${most(row).slice(0, 3).map((t) => `${spoken(this.texts[t])} ${percent(row[t])}`).join(', ')}`;
  }

  show(i) {
    this.lens.show(i);
    const row = this.rows?.[i];
    if (!row) return;
    this.tokens.colour((t) => (t <= i ? shareClass(row[t]) : 'later'));
    this.matrix.show(this.rows, i);
    this.story.replaceChildren('From ', el('b', { class: 'prose' }, this.shown[i]), ' this head looks at:');
    this.looks.replaceChildren(...most(row).map((t) => bar({ text: this.texts[t], prob: row[t] }, t === i)));
  }
}

/** The places with the most weight, most first. */
function most(row) {
  return [...row.keys()].sort((a, b) => row[b] - row[a]).slice(0, SEEN);
}
