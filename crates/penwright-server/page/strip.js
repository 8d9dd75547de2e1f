// The values of one cell around the current token: a row of bars for each gate, for the cell and for what it shows.

import { svg, visible } from './dom.js';

const ROWS = [
  { name: 'forget', label: 'forget' }, { name: 'input', label: 'input' }, { name: 'candidate', label: 'candidate' },
  { name: 'output', label: 'output' }, { name: 'cell', label: 'c' }, { name: 'hidden', label: 'h' },
];
const [LEFT, WIDTH, ROW, GAP, FOOT] = [76, 820, 34, 6, 30];

/** The drawing, and `show(texts, values, i)` that draws the tokens around token `i`. */
export function drawStrip() {
  const height = ROWS.length * (ROW + GAP) + FOOT;
  const node = svg('svg', { class: 'strip', viewBox: `0 0 ${LEFT + WIDTH} ${height}`, role: 'img', 'aria-label': 'Bars for each gate, the cell and what it shows, token by token' });
  const show = (texts, values, i) => {
    // As many columns as their tokens have room for.
    const longest = Math.max(1, ...texts.slice(Math.max(0, i - 20), i + 20).map((text) => [...text].length));
    const columns = longest > 1 ? 16 : 52;
    const first = Math.max(0, Math.min(texts.length - columns, i - Math.floor(columns / 2)));
    const last = Math.min(texts.length, first + columns);
    const wide = WIDTH / columns;
    const parts = [svg('rect', { class: 'now', x: LEFT + (i - first) * wide, y: 0, width: wide, height })];
    ROWS.forEach(({ name, label }, row) => {
      const top = row * (ROW + GAP);
      // Gates lie between 0 and 1, the others on both sides of 0; a cell's value may leave −1 … 1, its tanh does not.
      const both = !['forget', 'input', 'output'].includes(name);
      const zero = both ? top + ROW / 2 : top + ROW;
      parts.push(svg('text', { class: 'label', x: LEFT - 8, y: top + ROW / 2 + 5, 'text-anchor': 'end' }, label));
      parts.push(svg('path', { class: 'axis', d: `M${LEFT} ${zero}H${LEFT + (last - first) * wide}` }));
      for (let t = first; t < last; t += 1) {
        const value = values[name][t][0];
        const x = name === 'cell' ? Math.tanh(value) : value;
        const size = Math.abs(x) * (both ? ROW / 2 : ROW);
        parts.push(svg('rect', {
          class: x < 0 ? 'minus' : 'plus', x: LEFT + (t - first) * wide + 1, width: Math.max(1, wide - 2), y: x < 0 ? zero : zero - size, height: size,
        }));
      }
    });
    for (let t = first; t < last; t += 1) {
      const text = visible(texts[t]);
      const short = [...text].length > 7 ? `${[...text].slice(0, 6).join('')}…` : text;
      parts.push(svg('text', { class: t === i ? 'token here' : 'token', x: LEFT + (t - first + 0.5) * wide, y: height - 8, 'text-anchor': 'middle' }, short));
    }
    node.replaceChildren(...parts);
  };
  return { node, show };
}
