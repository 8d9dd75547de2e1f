// Small helpers for building the page.

/** An element: `el('button', { class: 'main', onclick }, 'Go')`. Text becomes text, never markup. */
export function el(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** An SVG element, likewise. */
export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), props, children);
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

export const byId = (id) => document.getElementById(id);

/** Says something to screen readers without moving the focus. */
export function announce(text) {
  byId('live').textContent = text;
}

/** A token as it is shown where white space must be seen. */
export function visible(text) {
  if (text === '') return '∅';
  if (text === '<|endoftext|>') return '⟨end⟩';
  return text.replace(/\n/g, '↵').replace(/\t/g, '⇥').replace(/^ +| +$/g, (spaces) => '·'.repeat(spaces.length));
}

/** The same for a screen reader. */
export function spoken(text) {
  if (text === '') return 'nothing';
  if (text === '<|endoftext|>') return 'end of text';
  if (text === ' ') return 'space';
  if (/^\n+$/.test(text)) return 'line end';
  return text.replace(/\n/g, ' line end ');
}

export const percent = (x) => {
  if (x >= 0.9995) return '100 %';
  if (x >= 0.0995) return `${(100 * x).toFixed(0)} %`;
  if (x >= 0.00095) return `${(100 * x).toFixed(1)} %`;
  return '< 0.1 %';
};

/** A signed number with two decimals and a true minus. */
export const signed = (x) => (Math.abs(x) < 0.005 ? '0.00' : x.toFixed(2).replace('-', '−'));

export const count = (n) => n.toLocaleString('en');

/** Remembers small things in this browser; without storage (private windows) it just forgets. */
export const memory = {
  get(name, otherwise) {
    try {
      const value = JSON.parse(localStorage.getItem(`penwright.${name}`));
      return value ?? otherwise;
    } catch {
      return otherwise;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(`penwright.${name}`, JSON.stringify(value));
    } catch {
      // Full or forbidden: the page works on.
    }
  },
};

/** Fills a field with what stood in it last in this browser, and remembers what is written in it. */
export function remembered(field, name, otherwise = '') {
  field.value = memory.get(name, otherwise);
  field.addEventListener('input', () => memory.set(name, field.value));
}

/** Puts another text into a field, as if somebody had written it. */
export function replaceText(field, text) {
  field.value = text;
  field.dispatchEvent(new Event('input'));
}

/** Calls `f` once things have been quiet for `ms`. */
export function later(f, ms) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(f, ms);
  };
}
