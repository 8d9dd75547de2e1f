// Requests to the server that served this page, and to no other.

import { byId } from './dom.js';

let key = null;
try {
  key = sessionStorage.getItem('penwright.key');
} catch {
  // Without storage the key is asked for again after a reload.
}

/** What the server refused, in its own words. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

let asking = null;

/** Asks the person for a key; false when they would rather not. Requests that wait meanwhile share the dialog. */
function askForKey() {
  asking ??= new Promise((done) => {
    const [dialog, field] = [byId('key-dialog'), byId('key-field')];
    field.value = '';
    // Whoever is asked although there is a key gave a wrong one.
    byId('key-wrong').hidden = key === null;
    dialog.returnValue = 'cancel';
    dialog.addEventListener(
      'close',
      () => {
        asking = null;
        if (dialog.returnValue === 'use') {
          key = field.value;
          try {
            sessionStorage.setItem('penwright.key', key);
          } catch {
            // As above.
          }
        }
        field.value = '';
        done(dialog.returnValue === 'use');
      },
      { once: true },
    );
    dialog.showModal();
  });
  return asking;
}

async function send(path, options) {
  for (;;) {
    const used = key;
    const headers = { ...options.headers, ...(used ? { Authorization: `Bearer ${used}` } : {}) };
    let answer;
    try {
      answer = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      throw new Refused(0, 'The server cannot be reached; is it still running?');
    }
    if (answer.ok) return answer;
    // Another request may have been given a key meanwhile.
    if (answer.status === 401 && (key !== used || (await askForKey()))) continue;
    throw new Refused(answer.status, await reason(answer));
  }
}

async function reason(answer) {
  let message = '';
  try {
    message = (await answer.json()).error.message;
  } catch {
    // Not the server's own form of an error.
  }
  if (answer.status === 429) {
    const wait = answer.headers.get('Retry-After');
    return `The server has its hands full; try again in ${wait ? `${wait} s` : 'a moment'}.`;
  }
  return message || `The server answered ${answer.status}.`;
}

export async function get(path, signal) {
  return (await send(path, { signal })).json();
}

export async function post(path, body, signal) {
  return (await sendJson(path, body, signal)).json();
}

function sendJson(path, body, signal) {
  return send(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body), signal });
}

/** Calls `see` with the data of each server-sent event of the answer, until `[DONE]` or its end. */
async function events(answer, see) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split(/\r?\n\r?\n/);
    rest = parts.pop();
    for (const part of parts) {
      const lines = part.split(/\r?\n/).filter((line) => line.startsWith('data:'));
      const data = lines.map((line) => line.slice(5).replace(/^ /, '')).join('\n');
      if (data === '[DONE]') return;
      if (data) see(JSON.parse(data));
    }
  }
}

/** Streams completions: `see(index, text)` for every piece of text. */
export async function complete(body, see, signal) {
  const answer = await sendJson('/v1/completions', { ...body, stream: true }, signal);
  await events(answer, (event) => {
    if (event.error) throw new Refused(500, event.error.message);
    for (const choice of event.choices ?? []) if (choice.text) see(choice.index, choice.text);
  });
}

/** Follows a stream of events. */
export async function follow(path, see, signal) {
  await events(await send(path, { signal }), see);
}

/** Whether an error only says that somebody pressed Stop. */
export const stopped = (error) => error.name === 'AbortError';
