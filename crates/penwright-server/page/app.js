// The page: its tabs, and its parts as they are first opened.

import { byId } from './dom.js';
import { get } from './api.js';
import { load } from './models.js';
import { startCompare } from './compare.js';
import { startInside } from './inside.js';
import { startTrain } from './train.js';
import { trouble } from './trouble.js';
import { startWrite } from './write.js';

const tabs = [...document.querySelectorAll('[role="tab"]')];
const name = (tab) => tab.getAttribute('aria-controls');

function open(tab, focus) {
  for (const other of tabs) {
    const on = other === tab;
    other.setAttribute('aria-selected', String(on));
    other.tabIndex = on ? 0 : -1;
    byId(name(other)).hidden = !on;
  }
  trouble(null);
  if (focus) tab.focus();
  document.title = `${tab.textContent} · Penwright`;
  if (location.hash.slice(1) !== name(tab)) history.replaceState(null, '', `#${name(tab)}`);
}

function fromAddress() {
  const wanted = tabs.find((tab) => !tab.hidden && name(tab) === location.hash.slice(1));
  open(wanted ?? tabs[0], false);
}

/** As the pattern for tabs has it: arrows move, Home and End go to the ends. */
function keys(event) {
  const shown = tabs.filter((tab) => !tab.hidden);
  const at = shown.indexOf(document.activeElement);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  open(shown.at(to % shown.length), true);
}

async function begin() {
  tabs.forEach((tab) => tab.addEventListener('click', () => open(tab, false)));
  document.querySelector('[role="tablist"]').addEventListener('keydown', keys);
  window.addEventListener('hashchange', fromAddress);
  startWrite();
  startCompare();
  startInside();
  fromAddress();
  try {
    const server = await get('/api/server');
    if (server.training) {
      byId('tab-train').hidden = false;
      startTrain();
      fromAddress();
    }
    const models = await load();
    if (!models.length) trouble('This server has no model yet.');
  } catch (error) {
    trouble(error.message);
  }
}

begin();
