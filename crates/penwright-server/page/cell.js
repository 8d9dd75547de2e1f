// An LSTM cell, drawn: the memory runs along the top; four gates below read the token and what was shown before.

import { el, signed, svg } from './dom.js';

const GATES = [
  { name: 'forget', x: 62, sign: 'σ', label: 'forget' },
  { name: 'input', x: 154, sign: 'σ', label: 'input' },
  { name: 'candidate', x: 246, sign: 'tanh', label: 'candidate' },
  { name: 'output', x: 338, sign: 'σ', label: 'output' },
];
const [TOP, MIDDLE, GATE, HEIGHT, BUS] = [66, 156, 236, 58, 342];

/** The drawing, and `show(values, token)` that fills it. */
export function drawCell() {
  const wires = {};
  const texts = {};
  const bars = {};
  const wire = (name, d) => (wires[name] = svg('path', { class: 'wire', d }));
  const text = (name, x, y, anchor = 'middle', more = 'value') => (texts[name] = svg('text', { class: more, x, y, 'text-anchor': anchor }));
  const label = (x, y, words, anchor = 'middle') => svg('text', { class: 'label', x, y, 'text-anchor': anchor }, words);
  const node = (x, y, sign) => [svg('circle', { class: 'node', cx: x, cy: y, r: 13 }), svg('text', { class: 'sign', x, y: y + 5, 'text-anchor': 'middle' }, sign)];
  const gate = ({ name, x, sign, label: words }) => {
    bars[name] = svg('rect', { class: 'gauge', x: x - 38, width: 76, y: GATE, height: 0 });
    return [
      svg('rect', { class: 'gate', x: x - 38, y: GATE, width: 76, height: HEIGHT, rx: 7 }), bars[name],
      label(x, GATE + 17, words), text(name, x, GATE + 37), svg('text', { class: 'label faint', x, y: GATE + 52, 'text-anchor': 'middle' }, sign),
    ];
  };
  const up = (x) => `M${x} ${BUS}V${GATE + HEIGHT}`;
  const node0 = svg('svg', { class: 'cell', viewBox: '0 0 420 372', role: 'img', 'aria-label': 'An LSTM cell with its gates; the values are told in words beside it' },
    svg('path', { class: 'bus', d: `M14 ${BUS}H338${GATES.map(({ x }) => up(x)).join('')}` }),
    wire('before', `M14 ${TOP}H62`), wire('kept', `M62 ${TOP}H246`), wire('cell', `M246 ${TOP}H406`),
    wire('forget', `M62 ${GATE}V${TOP}`), wire('input', `M154 ${GATE}V${MIDDLE}H246`), wire('candidate', `M246 ${GATE}V${MIDDLE}`),
    wire('written', `M246 ${MIDDLE}V${TOP}`), wire('tanh', `M338 ${TOP}V${MIDDLE + 26}`), wire('output', `M338 ${GATE}V${MIDDLE + 26}`),
    wire('hidden', `M338 ${MIDDLE + 26}H406`),
    node(62, TOP, '×'), node(246, MIDDLE, '×'), node(246, TOP, '+'), node(338, MIDDLE + 26, '×'),
    svg('rect', { class: 'node', x: 314, y: 96, width: 48, height: 24, rx: 12 }), svg('text', { class: 'label', x: 338, y: 112, 'text-anchor': 'middle' }, 'tanh'),
    GATES.map(gate),
    label(14, 26, 'c before', 'start'), text('before', 14, 48, 'start'),
    label(154, 38, 'kept'), text('kept', 154, 56), label(254, 112, 'written', 'start'), text('written', 254, 130, 'start'),
    label(406, 26, 'c', 'end'), text('cell', 406, 48, 'end'), label(406, 152, 'h', 'end'), text('hidden', 406, 172, 'end'),
    label(14, BUS + 20, 'token x and h before', 'start'), text('token', 338, BUS + 20, 'end', 'token'));
  const show = (v, token) => {
    const values = { ...v, kept: v.forget * v.before, written: v.input * v.candidate, tanh: Math.tanh(v.cell) };
    for (const [name, path] of Object.entries(wires)) {
      const x = values[name];
      path.style.setProperty('stroke-width', `${1.5 + 5 * Math.min(1, Math.abs(x))}px`);
      path.classList.toggle('minus', x < -0.005);
      path.classList.toggle('plus', x > 0.005);
    }
    for (const [name, rect] of Object.entries(bars)) {
      const height = HEIGHT * Math.min(1, Math.abs(values[name]));
      rect.setAttribute('height', height);
      rect.setAttribute('y', GATE + HEIGHT - height);
      rect.classList.toggle('minus', values[name] < 0);
    }
    for (const [name, at] of Object.entries(texts)) at.textContent = name === 'token' ? token : signed(values[name]);
  };
  return { node: node0, show };
}

/** The key to the colours. */
export const cellKey = () => el('figcaption', { class: 'note' }, 'The wider a line, the larger the number; blue is positive, orange negative.');
