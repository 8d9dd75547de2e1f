// The models that the server writes with.

import { count, el, memory } from './dom.js';
import { get } from './api.js';

const KINDS = { ngram: 'n-gram', lstm: 'LSTM', gpt2: 'GPT-2' };
const LEVELS = { char: 'characters', word: 'words', bpe: 'pieces of words', gpt2: 'GPT-2’s vocabulary' };

let all = [];
const watchers = [];

export async function load() {
  all = await get('/api/models');
  watchers.forEach((watch) => watch(all));
  return all;
}

/** Calls `watch` with the models now, if they are known, and whenever they change. */
export function whenLoaded(watch) {
  watchers.push(watch);
  if (all.length) watch(all);
}

export const named = (id) => all.find((model) => model.id === id);

/** A model in a few words: `LSTM, 2 × 256, characters, 1.1 million parameters`. */
export function describe(model) {
  const shape = model.layers && model.width ? `${model.layers} × ${model.width}` : null;
  return [KINDS[model.kind] ?? model.kind, shape, LEVELS[model.level], size(model)].filter(Boolean).join(', ');
}

export const kindOf = (model) => KINDS[model.kind] ?? model.kind;

function size(model) {
  const [n, what] = [model.params, model.kind === 'ngram' ? 'counts' : 'parameters'];
  if (!n) return null;
  if (n >= 1e9) return `${(n / 1e9).toFixed(1)} billion ${what}`;
  if (n >= 1e6) return `${(n / 1e6).toFixed(n < 1e7 ? 1 : 0)} million ${what}`;
  return `${count(n)} ${what}`;
}

/** Keeps a select's options those of the models that `fits` lets through; its choice is remembered. */
export function bindSelect(select, name, fits = () => true) {
  whenLoaded((models) => {
    const wanted = select.value || memory.get(name, '');
    const fitting = models.filter(fits);
    select.replaceChildren(...fitting.map((model) => el('option', { value: model.id }, `${model.id} (${kindOf(model)})`)));
    // What was likely trained last stands last, but a GPT-2 writes best.
    const best = fitting.findLast((model) => model.kind === 'gpt2') ?? fitting.at(-1);
    select.value = fitting.some((model) => model.id === wanted) ? wanted : (best?.id ?? '');
    select.dispatchEvent(new Event('change'));
  });
  select.addEventListener('input', () => memory.set(name, select.value));
}
