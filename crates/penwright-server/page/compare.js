// Compare: the same beginning continued by each model, and a text coloured by each model's surprise.

import { announce, byId, el, memory, percent, remembered, replaceText, spoken, visible } from './dom.js';
import { complete, post, stopped } from './api.js';
import { describe, whenLoaded } from './models.js';
import { options } from './options.js';
import { bar, surpriseClass, Tokens } from './tokens.js';
import { trouble } from './trouble.js';
import { sheetText } from './write.js';

/** Characters of a token that is a piece of a word, about; a model of characters writes so many tokens more. */
const CHARACTERS = 4;
const MOST = 4000;
/** Characters of the sheet that are taken over. */
const TAKEN = 2000;
const ALTERNATIVES = 6;

let models = [];
let writing = null;

export function startCompare() {
  whenLoaded((loaded) => {
    models = loaded;
    const off = memory.get('compare.off', []);
    byId('compare-models').replaceChildren(...models.map((model) => el('label', {},
      el('input', { type: 'checkbox', value: model.id, checked: !off.includes(model.id), onchange: remember }),
      ` ${model.id} `, el('small', {}, describe(model)))));
  });
  const [beginning, judged] = [byId('beginning'), byId('judged')];
  remembered(beginning, 'compare.beginning');
  remembered(judged, 'compare.judged');
  byId('compare-take').addEventListener('click', () => replaceText(beginning, sheetText().slice(-400)));
  byId('judge-take').addEventListener('click', () => replaceText(judged, sheetText().slice(-TAKEN)));
  byId('compare-go').addEventListener('click', goOn);
  byId('compare-stop').addEventListener('click', () => writing?.abort());
  byId('judge').addEventListener('click', judge);
}

const boxes = () => [...byId('compare-models').querySelectorAll('input')];

function remember() {
  memory.set('compare.off', boxes().filter((box) => !box.checked).map((box) => box.value));
}

function chosen() {
  const ids = boxes().filter((box) => box.checked).map((box) => box.value);
  if (!ids.length) trouble('Choose at least one model.');
  return models.filter((model) => ids.includes(model.id));
}

async function goOn() {
  trouble(null);
  const asked = chosen();
  if (!asked.length || writing) return;
  writing = new AbortController();
  const busy = (on) => {
    byId('compare-go').disabled = on;
    byId('compare-stop').hidden = !on;
  };
  busy(true);
  const beginning = byId('beginning').value;
  const settings = options();
  // One seed for all, also where none was given.
  settings.seed ??= Math.floor(Math.random() * 1e9);
  const cards = asked.map((model) => column(model, beginning));
  byId('columns').replaceChildren(...cards.map((card) => card.node));
  await Promise.all(asked.map((model, i) => one(model, beginning, settings, cards[i])));
  announce(`${asked.length} continuations are written`);
  writing = null;
  busy(false);
}

function column(model, beginning) {
  const [text, note] = [el('span', { class: 'written' }), el('p', { class: 'note' }, describe(model))];
  const node = el('article', {}, el('h3', {}, model.id), note, el('p', { class: 'prose' }, beginning, text));
  return { node, text, note };
}

async function one(model, prompt, settings, card) {
  const began = performance.now();
  const max_tokens = Math.min(MOST, settings.max_tokens * (model.level === 'char' ? CHARACTERS : 1));
  try {
    await complete({ model: model.id, prompt, n: 1, ...settings, max_tokens }, (_, text) => card.text.append(text), writing.signal);
    card.note.textContent += ` · ${((performance.now() - began) / 1000).toFixed(1)} s`;
  } catch (error) {
    if (!stopped(error)) card.node.append(el('p', { class: 'notice' }, error.message));
  }
}

async function judge() {
  trouble(null);
  const asked = chosen();
  const text = byId('judged').value;
  if (!asked.length) return;
  if (!text) return trouble('Give a text to be coloured.');
  byId('judge').disabled = true;
  const place = byId('judgements');
  place.replaceChildren(scale());
  const rows = asked.map((model) => el('article', {}, el('h3', {}, model.id), el('p', { class: 'note' }, 'reading …')));
  place.append(...rows);
  await Promise.all(asked.map(async (model, i) => {
    try {
      const { tokens } = await post('/api/surprise', { model: model.id, text, top: ALTERNATIVES });
      rows[i].replaceChildren(...judgement(model, tokens));
    } catch (error) {
      rows[i].lastChild.replaceWith(el('p', { class: 'notice' }, error.message));
    }
  }));
  byId('judge').disabled = false;
  announce('The text is coloured');
}

function scale() {
  const steps = ['under 1', '1', '2', '4', '6', '9 and more'];
  return el('div', { class: 'scale' }, 'bits a character: ',
    el('ul', {}, steps.map((step, i) => el('li', { class: `w${i}` }, step))));
}

const length = (text) => Math.max(1, [...text].length);

function judgement(model, tokens) {
  const bits = tokens.map((token) => -token.log_prob / Math.LN2);
  const all = bits.reduce((sum, x) => sum + x, 0);
  const chars = tokens.reduce((sum, token) => sum + [...token.text].length, 0);
  const readout = el('div', { class: 'readout' });
  const say = (i) => `${bits[i].toFixed(1)} bits, probability ${percent(Math.exp(tokens[i].log_prob))}`;
  const see = (i) => readout.replaceChildren(
    el('p', {}, el('b', { class: 'prose' }, visible(tokens[i].text)), ` ${say(i)}. Instead it thought of:`),
    el('ul', { class: 'bars' }, tokens[i].alternatives.map((choice) => bar(choice, choice.id === tokens[i].id))));
  const view = new Tokens(tokens.map((token) => token.text), {
    label: `The text as ${model.id} sees it; arrow keys move from token to token`, see,
    say: (i) => `${say(i)}; likeliest ${tokens[i].alternatives.slice(0, 3).map((c) => `${spoken(c.text)} ${percent(c.prob)}`).join(', ')}`,
  });
  view.colour((i) => surpriseClass(bits[i] / length(tokens[i].text)));
  readout.append(el('p', { class: 'note' }, 'Point at a part of the text, or walk through it with the arrow keys.'));
  return [
    el('h3', {}, model.id, el('small', {}, describe(model))),
    el('p', {}, el('strong', {}, `${(all / Math.max(1, chars)).toFixed(2)} bits a character`),
      ` over ${tokens.length} tokens; ${all.toFixed(0)} bits in all.`),
    view.node, readout,
  ];
}
