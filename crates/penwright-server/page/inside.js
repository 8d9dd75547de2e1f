// Look inside: asks the server what goes on in a model as it reads a text, and shows it.

import { byId, el, remembered, replaceText } from './dom.js';
import { complete } from './api.js';
import { bindSelect, describe, named } from './models.js';
import { showGpt2 } from './gpt2.js';
import { showLstm } from './lstm.js';
import { trouble } from './trouble.js';
import { sheetText } from './write.js';

/** A text to begin with: people who speak, long lines and short ones. */
const SAMPLE = `"Are you awake?" she asked. Nobody answered. The lamp had burned low, and the wind went round the house as if it were looking for a door that somebody had forgotten.

"I am," said the clock on the wall, "but I am always awake."

She sat up. "Then tell me the time."
`;
/** Tokens that a model writes for itself to be watched. */
const WRITTEN = 1200;
/** Characters of the sheet that are taken over. */
const TAKEN = 6000;

let leave = () => {};

export function startInside() {
  const [select, area] = [byId('inside-model'), byId('inside-text')];
  remembered(area, 'inside.text', SAMPLE);
  bindSelect(select, 'inside.model', (model) => model.kind !== 'ngram');
  select.addEventListener('change', () => {
    const model = named(select.value);
    byId('inside-note').textContent = model ? describe(model) : 'There is no LSTM and no GPT-2 here to look into.';
    byId('inside-go').disabled = byId('inside-sample').disabled = !model;
  });
  byId('inside-go').addEventListener('click', read);
  byId('inside-sample').addEventListener('click', sample);
  byId('inside-take').addEventListener('click', () => replaceText(area, sheetText().slice(-TAKEN)));
}

async function read() {
  const model = named(byId('inside-model').value);
  const text = byId('inside-text').value;
  if (!model) return;
  trouble(null);
  if (!text) return trouble('Give a text to be read.');
  const view = byId('inside-view');
  leave();
  leave = () => {};
  view.replaceChildren(el('p', { class: 'note' }, `${model.id} reads …`));
  byId('inside-go').disabled = true;
  try {
    leave = await (model.kind === 'lstm' ? showLstm : showGpt2)(view, model, text);
  } catch (error) {
    view.replaceChildren();
    trouble(error.message);
  }
  byId('inside-go').disabled = false;
}

/** The model writes from the beginning of a text: what it has written itself it knows best. */
async function sample() {
  const model = named(byId('inside-model').value);
  const area = byId('inside-text');
  trouble(null);
  byId('inside-sample').disabled = true;
  const tokens = model.kind === 'lstm' ? WRITTEN : Math.min(60, Math.floor(model.context / 2));
  area.value = '';
  try {
    await complete({ model: model.id, prompt: '', n: 1, max_tokens: tokens, temperature: 0.7 }, (_, text) => {
      area.value += text;
      area.scrollTop = area.scrollHeight;
    });
    area.dispatchEvent(new Event('input'));
  } catch (error) {
    trouble(error.message);
  }
  byId('inside-sample').disabled = false;
}
