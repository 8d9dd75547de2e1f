// A head's weights as a picture: one row a token.

import { el } from './dom.js';

/** The picture, and `show(rows, i)` that draws the weights and marks row `i`; `see(i)` is told of a row pointed at. */
export function drawMatrix(see) {
  const node = el('canvas', { class: 'matrix', width: 1, height: 1, role: 'img', 'aria-label': 'The head’s weights; what it looks at from the chosen token is told beside it' });
  node.addEventListener('click', (event) => {
    const box = node.getBoundingClientRect();
    see(Math.floor(((event.clientY - box.top) / box.height) * node.height));
  });
  let last = null;
  const show = (rows, i) => {
    last = [rows, i];
    const size = rows.length;
    node.width = node.height = size;
    const context = node.getContext('2d');
    const style = getComputedStyle(node);
    const [ink, paper, mark] = ['--strong', '--raised', '--mark'].map((name) => colour(style.getPropertyValue(name)));
    const image = context.createImageData(size, size);
    rows.forEach((row, y) => {
      for (let x = 0; x < size; x += 1) {
        // The square root shows small weights too.
        const share = x < row.length ? Math.sqrt(row[x]) : 0;
        const ground = y === i ? mark : paper;
        for (let c = 0; c < 3; c += 1) image.data[4 * (y * size + x) + c] = ground[c] + share * (ink[c] - ground[c]);
        image.data[4 * (y * size + x) + 3] = 255;
      }
    });
    context.putImageData(image, 0, 0);
  };
  // The colours are those of the scheme, which may change.
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => last && node.isConnected && show(...last));
  return { node, show };
}

/** `#rrggbb` as three numbers. */
function colour(hex) {
  const n = parseInt(hex.trim().slice(1), 16);
  return [n >> 16, (n >> 8) & 255, n & 255];
}
