// A learning curve: bits a character over the seconds of training, of the text that is learned and of the one that is not.

import { el, svg } from './dom.js';

const [LEFT, RIGHT, TOP, BOTTOM, WIDTH, HEIGHT] = [44, 12, 12, 34, 640, 280];
/** Points of the training text that are drawn; more are thinned out. */
const POINTS = 400;

/** The drawing; `learned(t, bits)` and `unseen(t, bits)` add points. */
export function drawCurve() {
  const node = svg('svg', { class: 'curve', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': 'The learning curve; nothing yet' });
  const figure = el('figure', { hidden: true }, node);
  const series = { learned: [], unseen: [] };
  const draw = () => {
    const all = [...series.learned, ...series.unseen];
    const last = Math.max(1, ...all.map(([t]) => t));
    const ys = all.map(([, bits]) => bits);
    const [low, high] = [Math.floor(Math.min(...ys) * 2) / 2, Math.ceil(Math.max(...ys) * 2) / 2];
    const x = (t) => LEFT + ((WIDTH - LEFT - RIGHT) * t) / last;
    const y = (bits) => TOP + ((HEIGHT - TOP - BOTTOM) * (high - bits)) / Math.max(0.5, high - low);
    const path = (points) => points.map(([t, bits], i) => `${i ? 'L' : 'M'}${x(t).toFixed(1)} ${y(bits).toFixed(1)}`).join('');
    const lines = [low, (low + high) / 2, high].map((bits) => [
      svg('path', { class: 'axis', d: `M${LEFT} ${y(bits)}H${WIDTH - RIGHT}` }),
      svg('text', { x: LEFT - 6, y: y(bits) + 4, 'text-anchor': 'end' }, bits.toFixed(2).replace(/0$/, '')),
    ]);
    const dots = series.unseen.map(([t, bits]) => svg('circle', { cx: x(t), cy: y(bits), r: 3.5 }));
    const foot = HEIGHT - 10;
    node.replaceChildren(...lines.flat(), svg('path', { class: 'learned', d: path(series.learned) }),
      svg('path', { class: 'line', d: path(series.unseen) }), ...dots,
      svg('text', { x: LEFT, y: foot }, 'bits a character: dots, of the text it never saw; thin, of the text it learns'),
      svg('text', { x: WIDTH - RIGHT, y: foot, 'text-anchor': 'end' }, `${last.toFixed(0)} s`));
    const [first, now] = [series.unseen[0], series.unseen.at(-1)];
    if (now) node.setAttribute('aria-label', `Bits a character of the text that the model never saw: ${now[1].toFixed(2)} after ${now[0].toFixed(0)} seconds, ${first[1].toFixed(2)} at first`);
  };
  const add = (name) => (t, bits) => {
    if (!Number.isFinite(bits)) return;
    series[name].push([t, bits]);
    figure.hidden = false;
    if (series[name].length > POINTS) series[name] = series[name].filter((_, i) => i % 2 === 0);
    draw();
  };
  return { node: figure, learned: add('learned'), unseen: add('unseen') };
}
