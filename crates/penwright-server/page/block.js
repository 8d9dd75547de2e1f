// A decoder block, drawn: the residual stream runs up, attention and the feed-forward network add to it.

import { svg } from './dom.js';

const X = 60;

export function drawBlock(layers) {
  const label = (x, y, words, anchor = 'middle', name = 'label') => svg('text', { class: name, x, y, 'text-anchor': anchor }, words);
  const box = (y, words) => [svg('rect', { class: 'gate', x: 150, y, width: 150, height: 42, rx: 7 }), label(225, y + 26, words)];
  const norm = (y) => [svg('rect', { class: 'node', x: 88, y: y + 9, width: 46, height: 24, rx: 12 }), label(111, y + 26, 'norm')];
  const plus = (y) => [svg('circle', { class: 'node', cx: X, cy: y, r: 12 }), label(X, y + 5, '+', 'middle', 'sign')];
  // Each branch leaves the stream below, goes through a norm and its layer, and is added above.
  const branch = (low, high) => svg('path', { class: 'bus', d: `M${X} ${low}H88M134 ${low}H150M225 ${low - 21}V${high}H${X + 12}` });
  return svg('svg', { class: 'cell block', viewBox: '0 0 320 372', role: 'img', 'aria-label': 'A decoder block: the residual stream, to which first attention and then the feed-forward network add' },
    svg('rect', { class: 'frame', x: 18, y: 66, width: 294, height: 240, rx: 12 }),
    svg('path', { class: 'wire plus thick', d: `M${X} 340V32` }),
    branch(276, 206), branch(160, 90),
    norm(255), box(255, 'attention'), norm(139), box(139, 'feed-forward'), plus(206), plus(90),
    label(X, 360, 'token + place', 'start'), label(304, 84, layers > 1 ? `one of ${layers} blocks` : 'the block', 'end', 'label faint'),
    label(X + 14, 50, 'on to the next block', 'start'), label(X, 22, 'what comes next?', 'start'));
}
