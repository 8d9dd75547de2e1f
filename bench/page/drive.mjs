// Drives every part of the page against a running server; see README.md.

import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { compare } from './parts/compare.mjs';
import { gpt2, lstm } from './parts/inside.mjs';
import { train } from './parts/train.mjs';
import { write } from './parts/write.mjs';

const [address = 'http://127.0.0.1:8080', shots = '/tmp/page'] = process.argv.slice(2);
const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const only = process.env.ONLY?.split(',');
const PARTS = { write, compare, lstm, gpt2, train };
const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];
const LOOKS = [[1280, 900, 'light'], [1280, 900, 'dark'], [390, 844, 'light'], [390, 844, 'dark']];

const ASKED = ['401', '409'];

const troubles = [];

async function open(width, height, colorScheme) {
  const folder = await mkdtemp(join(tmpdir(), 'page-'));
  const context = await chromium.launchPersistentContext(folder, {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, args: FLAGS,
    viewport: { width, height }, colorScheme, hasTouch: width < 600, bypassCSP: false,
  });
  const page = await context.newPage();
  page.on('console', (message) => {
    // The browser reports every refusal by itself; these are asked for: no key yet, and a name that is taken.
    if (['error', 'warning'].includes(message.type()) && !ASKED.some((status) => message.text().includes(`status of ${status}`))) troubles.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => troubles.push(`page: ${error.message}`));
  page.on('request', (request) => {
    if (!request.url().startsWith(address) && !request.url().startsWith('data:')) troubles.push(`another host: ${request.url()}`);
  });
  page.on('requestfailed', (request) => {
    // What is stopped on purpose fails in this way.
    if (!request.failure()?.errorText.includes('ERR_ABORTED')) troubles.push(`failed: ${request.url()} ${request.failure()?.errorText}`);
  });
  await page.goto(address);
  if (process.env.KEY) {
    await page.locator('#key-field').fill(`not ${process.env.KEY}`);
    await page.getByRole('button', { name: 'Use it' }).click();
    await page.waitForFunction(() => !document.querySelector('#key-wrong').hidden);
    await page.locator('#key-field').fill(process.env.KEY);
    await page.getByRole('button', { name: 'Use it' }).click();
  }
  await page.waitForFunction(() => document.querySelector('#write-model option'));
  return { context, page };
}

async function check(page, name) {
  // Evaluated by the browser's own tools, which the page's policy does not bind.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  for (const { id, impact, nodes, help } of violations) {
    const line = `axe, ${name}: ${impact} ${id}: ${help}: ${nodes.slice(0, 3).map((node) => node.target.join(' ')).join(' | ')}`;
    if (['serious', 'critical'].includes(impact)) troubles.push(line);
    else console.log(`  note: ${line}`);
  }
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (wide > 0) troubles.push(`${name}: the page is ${wide} pixels wider than the window`);
}

await mkdir(shots, { recursive: true });
for (const [width, height, scheme] of LOOKS) {
  const { context, page } = await open(width, height, scheme);
  for (const [name, part] of Object.entries(PARTS)) {
    if (only && !only.includes(name)) continue;
    const look = `${name}-${width}-${scheme}`;
    console.log(look);
    try {
      const done = await part(page, { assert, first: width === 1280 && scheme === 'light' });
      if (done === false) continue;
      await page.mouse.move(0, 0);
      await page.screenshot({ path: join(shots, `${look}.png`), fullPage: true });
      await check(page, look);
    } catch (error) {
      troubles.push(`${look}: ${error.stack}`);
      await page.screenshot({ path: join(shots, `${look}-failed.png`), fullPage: true });
    }
  }
  await context.close();
}
troubles.forEach((trouble) => console.error(trouble));
console.log(troubles.length ? `${troubles.length} troubles` : 'all is well');
process.exitCode = troubles.length ? 1 : 0;
