// Train: a run on an uploaded text with a budget, watched as it goes.

import { announce, byId, count, el } from './dom.js';
import { follow, get, post, stopped } from './api.js';
import { drawCurve } from './curve.js';
import { load } from './models.js';
import { trouble } from './trouble.js';
import { writeWith } from './write.js';

const BUDGETS = [[60, '1 minute'], [180, '3 minutes'], [600, '10 minutes'], [1800, '30 minutes'], [3600, '1 hour'], [14400, '4 hours']];
const KINDS = [['lstm', 'LSTM'], ['gpt2', 'GPT-2'], ['ngram', 'n-gram']];
const STATES = { preparing: 'is being prepared', training: 'is training', done: 'is done', stopped: 'was stopped', failed: 'has failed' };
const UNSAFE = /[^A-Za-z0-9._-]+/g;

let watching = null;

/** Shows the part; what runs already is watched. */
export async function startTrain() {
  const place = byId('train-view');
  const runs = el('div', { id: 'runs' });
  place.replaceChildren(form(), runs);
  try {
    const { runs: known } = await get('/api/train');
    if (known.length) watch(known.at(-1));
  } catch (error) {
    trouble(error.message);
  }
}

function form() {
  const file = el('input', { type: 'file', id: 'train-file', required: true, accept: '.txt,.md,text/plain,text/markdown', 'aria-describedby': 'train-hint' });
  const name = el('input', { type: 'text', id: 'train-name', required: true, maxlength: 60, autocomplete: 'off' });
  const kind = el('select', { id: 'train-kind' }, KINDS.map(([value, label]) => el('option', { value }, label)));
  const budget = el('select', { id: 'train-budget' }, BUDGETS.map(([value, label]) => el('option', { value, selected: value === 180 }, label)));
  file.addEventListener('change', () => {
    const bare = (file.files[0]?.name ?? '').replace(/\.[^.]*$/, '').replace(UNSAFE, '-').replace(/^[-.]+|-+$/g, '');
    if (bare) name.value = `${bare}-${kind.value}`.toLowerCase();
  });
  const field = (input, label) => el('div', { class: 'field' }, el('label', { for: input.id }, label), input);
  const begin = async (event) => {
    event.preventDefault();
    trouble(null);
    const button = byId('train-go');
    button.disabled = true;
    try {
      const text = await file.files[0].text();
      const run = await post('/api/train', { name: name.value.replace(UNSAFE, '-'), kind: kind.value, budget_s: Number(budget.value), text });
      watch(run);
    } catch (error) {
      trouble(error.message);
    }
    button.disabled = false;
  };
  return el('form', { onsubmit: begin },
    el('p', { class: 'intro', id: 'train-hint' }, 'Give a plain text, a book for instance; the more of it, the better. Nine tenths are learned from, and the last tenth, which the model never sees, tells how well it does. What is not asked here is chosen by the text’s size and the speed of the machine.'),
    el('div', { class: 'fields' }, field(file, 'Text'), field(name, 'Name'), field(kind, 'Model'), field(budget, 'Time')),
    el('button', { class: 'main', id: 'train-go' }, 'Train'));
}

/** Follows a run's events: `{ id, name, kind, state }`. */
async function watch(run) {
  watching?.abort();
  watching = new AbortController();
  const view = new RunView(run);
  byId('runs').replaceChildren(view.node);
  try {
    await follow(`/api/train/${encodeURIComponent(run.id)}/events`, (event) => view.see(event), watching.signal);
  } catch (error) {
    if (!stopped(error)) trouble(error.message);
  }
}

class RunView {
  constructor(run) {
    this.run = run;
    this.state = el('p', { class: 'story' });
    this.facts = el('p', { class: 'note' });
    this.curve = drawCurve();
    this.losses = [];
    this.samples = el('div', { class: 'samples' });
    this.progress = el('progress', { max: 1, 'aria-label': 'How far training has come' });
    this.stop = el('button', { onclick: () => this.end() }, 'Stop');
    this.links = el('p', { class: 'row' });
    this.reasons = el('ul', { class: 'note' });
    this.node = el('section', { class: 'part', 'aria-labelledby': 'run-heading' },
      el('h2', { id: 'run-heading' }, run.name), this.state, this.progress, el('div', { class: 'row' }, this.stop), this.links, this.facts,
      this.curve.node, this.reasons, this.samples);
    this.say(run.state);
  }

  say(state, more = '') {
    this.run.state = state;
    this.state.textContent = `The run ${STATES[state] ?? state}${more}.`;
    const running = state === 'preparing' || state === 'training';
    this.stop.hidden = this.progress.hidden = !running;
  }

  async end() {
    this.stop.disabled = true;
    try {
      await post(`/api/train/${encodeURIComponent(this.run.id)}/stop`, {});
    } catch (error) {
      this.stop.disabled = false;
      trouble(error.message);
    }
  }

  /** One event, as the record of a run has them, and a few more of the server's. */
  see(event) {
    const seen = {
      preparing: () => this.say('preparing', `: ${event.stage}`),
      plan: () => this.plan(event),
      step: () => this.step(event),
      excerpt: () => this.excerpt(event),
      eval: () => this.eval(event),
      sample: () => this.sample(event),
      done: () => this.done(event),
      failed: () => {
        this.say('failed', `: ${event.message}`);
        announce('Training has failed');
      },
    }[event.event];
    seen?.();
  }

  plan({ params, train_tokens, reasons = [] }) {
    this.say('training');
    this.facts.textContent = `${count(params)} parameters, ${count(train_tokens)} tokens to learn from.`;
    this.reasons.replaceChildren(...reasons.map((reason) => el('li', {}, reason)));
  }

  step({ step, steps, elapsed_s, train_loss, tokens_per_s }) {
    this.say('training', `: step ${count(step)}${steps ? ` of about ${count(steps)}` : ''}, ${count(Math.round(tokens_per_s))} tokens a second, loss ${train_loss.toFixed(3)}`);
    if (steps) this.progress.value = step / steps;
    this.losses.push([elapsed_s, train_loss]);
    this.drawLosses();
  }

  excerpt({ tokens, of }) {
    this.facts.append(` Of the ${count(of)} that it never sees, ${count(tokens)} tell how good it is: all would take too long.`);
  }

  eval({ elapsed_s, val_loss, val_bits_per_char }) {
    // Losses are nats a token; a validation has both, and so tells how many bits a character that is.
    if (val_loss > 0) this.bits = val_bits_per_char / val_loss;
    this.curve.unseen(elapsed_s, val_bits_per_char);
    this.drawLosses();
  }

  drawLosses() {
    if (!this.bits) return;
    for (const [time, loss] of this.losses.splice(0)) this.curve.learned(time, loss * this.bits);
  }

  sample({ step, text }) {
    const card = el('article', {}, el('h3', {}, `After ${count(step)} steps it writes`), el('p', { class: 'prose' }, text));
    this.samples.prepend(card);
    // The newest few are enough to see it learn.
    while (this.samples.children.length > 6) this.samples.lastChild.remove();
  }

  done({ run, model, reason, steps, elapsed_s, best_val_bits_per_char }) {
    const best = best_val_bits_per_char ? `; it needs ${best_val_bits_per_char.toFixed(2)} bits a character for the text it never saw` : '';
    this.say(reason === 'interrupted' ? 'stopped' : 'done', ` after ${count(steps)} steps and ${Math.round(elapsed_s)} s${best}`);
    this.links.replaceChildren(el('a', { href: `/api/train/${encodeURIComponent(this.run.id)}/report`, target: '_blank' }, 'Its report'));
    // A model that has no place beside the others is none to write with.
    if (model) this.joined(model, run);
    announce('Training has ended');
  }

  /** The model can be chosen in the other parts from now on. */
  joined(model, run) {
    load().catch((error) => trouble(error.message));
    this.links.append(el('button', { onclick: () => writeWith(model) }, 'Write with it'));
    this.facts.append(' When the server is started again, name it: ', el('code', {}, `penwright serve ${run}`));
  }
}
