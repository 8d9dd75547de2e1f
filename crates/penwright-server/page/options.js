// The sliders: how a model chooses what it writes.

import { el, memory } from './dom.js';

const off = (value, shown) => (value ? shown : 'off');

const SLIDERS = [
  {
    name: 'temperature', label: 'Temperature', min: 0, max: 2, step: 0.05, start: 0.8,
    show: (x) => x.toFixed(2), hint: 'Low keeps to what is likeliest; high dares the unlikely.',
  },
  {
    name: 'top_p', label: 'Top p', min: 0.05, max: 1, step: 0.05, start: 0.95,
    show: (x) => x.toFixed(2), hint: 'Only the likeliest tokens may come that together reach this probability.',
  },
  {
    name: 'top_k', label: 'Top k', min: 0, max: 200, step: 5, start: 0,
    show: (x) => off(x, String(x)), hint: 'Only so many of the likeliest tokens may come; at 0 all may.',
  },
  {
    name: 'repetition_penalty', label: 'Repetition penalty', min: 1, max: 2, step: 0.05, start: 1,
    show: (x) => off(x > 1, x.toFixed(2)), hint: 'Above 1, a token that was written already comes less easily again.',
  },
  {
    name: 'max_tokens', label: 'Length', min: 10, max: 1000, step: 10, start: 200,
    show: (x) => `${x} tokens`, hint: 'How much it writes before it waits for you.',
  },
];

const values = Object.fromEntries(SLIDERS.map((slider) => [slider.name, slider.start]));
Object.assign(values, memory.get('options', {}));
let seed = memory.get('seed', '');

/** What the sliders say, as fields of a request for completions. */
export function options() {
  const { temperature, top_p, top_k, repetition_penalty, max_tokens } = values;
  const body = { temperature, top_p, max_tokens };
  if (top_k > 0) body.top_k = top_k;
  if (repetition_penalty > 1) body.repetition_penalty = repetition_penalty;
  if (seed !== '') body.seed = Number(seed);
  return body;
}

function slider({ name, label, min, max, step, show, hint }) {
  const output = el('output', { for: `option-${name}` }, show(values[name]));
  const input = el('input', {
    type: 'range', id: `option-${name}`, min, max, step, value: values[name], 'aria-describedby': `hint-${name}`,
    'aria-valuetext': show(values[name]),
    oninput: () => {
      values[name] = Number(input.value);
      output.value = show(values[name]);
      input.setAttribute('aria-valuetext', output.value);
      memory.set('options', values);
    },
  });
  return el('div', { class: 'option' },
    el('label', { for: `option-${name}` }, label), output, input,
    el('p', { class: 'note', id: `hint-${name}` }, hint));
}

function seedField() {
  const input = el('input', {
    type: 'text', id: 'option-seed', inputmode: 'numeric', pattern: '[0-9]*', maxlength: 15, placeholder: 'by chance',
    value: seed, autocomplete: 'off', 'aria-describedby': 'hint-seed',
    oninput: () => {
      input.value = input.value.replace(/[^0-9]/g, '');
      seed = input.value;
      memory.set('seed', seed);
    },
  });
  return el('div', { class: 'option' },
    el('label', { for: 'option-seed' }, 'Seed'), input,
    el('p', { class: 'note', id: 'hint-seed' }, 'The same seed writes the same again from the same text.'));
}

/** Puts the sliders into `place`. */
export function showOptions(place) {
  const reset = el('button', {
    class: 'plain',
    onclick: () => {
      SLIDERS.forEach(({ name, start }) => (values[name] = start));
      seed = '';
      memory.set('options', values);
      memory.set('seed', seed);
      showOptions(place);
      place.querySelector('.plain').focus();
    },
  }, 'As it was');
  place.replaceChildren(...SLIDERS.map(slider), seedField(), reset);
}
