// Write: a sheet on which a person and a model take turns.

import { announce, byId, el, later, memory, percent, spoken } from './dom.js';
import { complete, post, stopped } from './api.js';
import { bindSelect, describe, named } from './models.js';
import { options, showOptions } from './options.js';
import { Sheet } from './sheet.js';
import { share } from './tokens.js';
import { trouble } from './trouble.js';

/** Continuations that are offered at once, and tokens to pick from. */
const OFFERS = 3;
const PICKS = 12;
/** Tries of a model of characters at the next word, and the longest word in characters. */
const TRIES = 16;
const LONGEST = 16;
/** Pixels between the end of a text and the buttons; and how far below them it may be and still be followed. */
const MARGIN = 24;
const NEAR = 100;
/** Characters before the cursor that are sent: more than any model looks back on that is not an LSTM. */
const PROMPT = 12000;

let sheet;
let select;
/** What stops the model that is writing now. */
let writing = null;
/** Whether tokens are offered to be picked. */
let picking = false;

export const sheetText = () => sheet.text;

export function startWrite() {
  sheet = new Sheet(byId('sheet'), changed);
  select = byId('write-model');
  select.addEventListener('change', () => {
    const model = named(select.value);
    byId('write-note').textContent = model ? `${describe(model)}. Control and Enter continues, Escape stops.` : '';
    offerPicks();
  });
  bindSelect(select, 'write.model');
  showOptions(byId('sliders'));
  byId('continue').addEventListener('click', goOn);
  byId('offer').addEventListener('click', offer);
  byId('words').addEventListener('click', () => setPicking(!picking));
  byId('stop').addEventListener('click', () => writing?.abort());
  byId('undo').addEventListener('click', () => undo('undo'));
  byId('redo').addEventListener('click', () => undo('redo'));
  byId('write').addEventListener('keydown', shortcuts);
  // On a narrow screen the sheet comes first, and the sliders when one asks for them.
  byId('options').open = memory.get('options.open', matchMedia('(min-width: 60rem)').matches);
  byId('options').addEventListener('toggle', () => memory.set('options.open', byId('options').open));
  changed();
}

/** Opens the part with a model chosen. */
export function writeWith(model) {
  select.value = model;
  select.dispatchEvent(new Event('input'));
  select.dispatchEvent(new Event('change'));
  byId('tab-write').click();
  sheet.area.focus();
}

function shortcuts(event) {
  const control = event.ctrlKey || event.metaKey;
  if (control && event.key === 'Enter') goOn();
  else if (event.key === 'Escape' && writing) writing.abort();
  else if (event.key === 'Escape' && !byId('offers').hidden) closeOffers();
  else if (control && event.key.toLowerCase() === 'z' && event.target === sheet.area) undo(event.shiftKey ? 'redo' : 'undo');
  else if (control && event.key.toLowerCase() === 'y' && event.target === sheet.area) undo('redo');
  else return;
  event.preventDefault();
}

function changed() {
  byId('undo').disabled = !sheet?.past.length || writing;
  byId('redo').disabled = !sheet?.future.length || writing;
  if (picking && !writing) offerPicks();
}

function undo(which) {
  if (writing) return;
  sheet[which]();
  closeOffers();
}

/** Runs `work` with the buttons as they are while a model writes. */
async function whileWriting(work) {
  if (writing || !select.value) return;
  trouble(null);
  writing = new AbortController();
  const busy = (on) => {
    sheet.locked = on;
    // Stop stands where Continue was, and has the focus where that had it.
    const [from, to] = on ? ['continue', 'stop'] : ['stop', 'continue'];
    const focused = document.activeElement === byId(from);
    [byId(from).hidden, byId(to).hidden] = [true, false];
    if (focused) byId(to).focus();
    ['offer', 'words'].forEach((id) => (byId(id).disabled = on));
    byId('sheet').classList.toggle('busy', on);
  };
  busy(true);
  changed();
  try {
    await work(writing.signal);
  } catch (error) {
    if (!stopped(error)) trouble(error.message);
  } finally {
    writing = null;
    busy(false);
    changed();
  }
}

/** Pixels by which the end of the text lies below what can be seen of the sheet. */
function below() {
  return sheet.bottom + MARGIN - byId('write-bar').getBoundingClientRect().top;
}

function request(n) {
  return { model: select.value, prompt: sheet.before.slice(-PROMPT), n, ...options() };
}

function goOn() {
  setPicking(false);
  closeOffers();
  return whileWriting(async (signal) => {
    const [model, body] = [select.value, request(1)];
    const start = sheet.place;
    let place = start;
    let begun = false;
    await complete(body, (_, text) => {
      // Only what was written can be undone.
      if (!begun) sheet.remember();
      begun = true;
      // Whoever sees the end of the text goes on seeing it; whoever has scrolled away is left alone.
      const follows = below() < NEAR;
      place = sheet.insert(place, text, model);
      if (follows && below() > 0) window.scrollBy({ top: below() });
    }, signal);
    announce(`It wrote: ${sheet.text.slice(start, place)}`);
  });
}

/** Several continuations, side by side, as they come. */
function offer() {
  setPicking(false);
  return whileWriting(async (signal) => {
    const [model, place] = [select.value, sheet.place];
    const texts = Array(Math.min(OFFERS, named(model).streams ?? OFFERS)).fill('');
    const cards = texts.map((_, i) => el('button', {
      class: 'offer prose', disabled: true, 'aria-label': `Continuation ${i + 1}, being written`,
      onclick: () => take(i),
    }));
    const take = (i) => {
      if (writing) return;
      sheet.remember();
      sheet.insert(place, texts[i], model);
      closeOffers();
      sheet.area.focus();
    };
    const heading = el('h2', { class: 'small' }, 'Choose how it goes on');
    const none = el('button', { class: 'plain', onclick: closeOffers }, 'None of them');
    byId('offers').replaceChildren(el('div', { class: 'row' }, heading, el('span', { class: 'grow' }), none),
      el('div', { class: 'columns' }, cards));
    byId('offers').hidden = false;
    byId('offers').scrollIntoView({ block: 'nearest' });
    try {
      await complete(request(texts.length), (i, text) => {
        if (!cards[i]) return;
        texts[i] += text;
        cards[i].textContent = texts[i];
      }, signal);
    } finally {
      // What has been written by now can be chosen, also after Stop.
      cards.forEach((card, i) => {
        card.disabled = !texts[i];
        card.setAttribute('aria-label', texts[i] ? `Take continuation ${i + 1}: ${texts[i]}` : `Continuation ${i + 1}, empty`);
      });
    }
    announce(`${texts.length} continuations to choose from`);
    // The button that was pressed could not keep the focus.
    if (document.activeElement === document.body) cards[0].focus();
  });
}

function closeOffers() {
  byId('offers').hidden = true;
  byId('offers').replaceChildren();
}

function setPicking(on) {
  if (picking === on) return;
  picking = on;
  byId('words').setAttribute('aria-pressed', String(on));
  closeOffers();
  if (on) offerPicks();
}

let asked = 0;

const offerPicks = later(async () => {
  if (!picking || writing || !select.value) return;
  asked += 1;
  const [mine, model, place, text] = [asked, named(select.value), sheet.place, sheet.before.slice(-PROMPT)];
  try {
    const [next, words] = await Promise.all([
      post('/api/next', { model: model.id, text, top: PICKS }),
      model.level === 'char' ? tryWords(model, text) : [],
    ]);
    // The text may have gone on meanwhile. A part of a character is nothing to write.
    const tokens = next.tokens.filter((token) => token.text && !/\\x[0-9A-F]{2}|^<\|.*\|>$/.test(token.text));
    if (mine === asked && picking && !writing) showPicks({ words, tokens }, model, place);
  } catch (error) {
    trouble(error.message);
  }
}, 120);

/** As many as the server writes at once. */
const triesOf = (model) => Math.min(TRIES, model.streams ?? TRIES);

/** The words that a model of characters writes next in some tries, and in what share of them. */
async function tryWords(model, prompt) {
  const { temperature, top_p } = options();
  const n = triesOf(model);
  const { choices } = await post('/v1/completions', { model: model.id, prompt, n, max_tokens: LONGEST, temperature, top_p });
  const found = new Map();
  for (const { text } of choices) {
    const word = /^\s*\S+(?=\s)/.exec(text)?.[0];
    if (word) found.set(word, (found.get(word) ?? 0) + 1);
  }
  const words = [...found].map(([text, times]) => ({ text, prob: times / choices.length }));
  return words.sort((a, b) => b.prob - a.prob);
}

function showPicks({ words, tokens }, model, place) {
  const list = byId('offers');
  const focused = [...list.querySelectorAll('.pick')].indexOf(document.activeElement);
  const button = (choice) => {
    const pick = () => {
      sheet.remember();
      sheet.insert(place, choice.text, model.id);
      announce(`${spoken(choice.text)}, and then?`);
    };
    return el('button', { class: 'pick', 'aria-label': `${spoken(choice.text)}, ${percent(choice.prob)}`, onclick: pick }, share(choice));
  };
  const group = (title, choices) => (choices.length
    ? [el('h2', { class: 'small' }, title), el('div', { class: 'picks' }, choices.map(button))] : []);
  list.replaceChildren(
    ...group(`Words that it wrote next in ${triesOf(model)} tries, and how often`, words),
    ...group(model.level === 'char' ? 'The likeliest characters' : 'What is likeliest to come next', tokens));
  list.hidden = false;
  // Whoever picks by keyboard goes on at the same place.
  const buttons = list.querySelectorAll('.pick');
  if (focused >= 0) buttons[Math.min(focused, buttons.length - 1)]?.focus();
}
