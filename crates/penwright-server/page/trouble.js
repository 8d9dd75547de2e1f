// One place in which the page says what went wrong.

import { byId } from './dom.js';

/** Shows a message, or takes it away when there is none. */
export function trouble(message) {
  byId('trouble').textContent = message ?? '';
  byId('trouble').hidden = !message;
}
