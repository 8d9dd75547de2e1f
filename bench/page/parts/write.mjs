const BEGINNING = 'Peg looked at the path. It lay quite still, as if it had never';

const text = (page) => page.getByLabel('Your text').inputValue();
const idle = (page) => page.waitForFunction(() => document.querySelector('#stop').hidden, null, { timeout: 120000 });

/** Typing, continuing, undoing, stopping, choosing among three, picking, and finding it all after a reload. */
export async function write(page, { assert }) {
  await page.getByRole('tab', { name: 'Write' }).click();
  const sheet = page.getByLabel('Your text');
  await sheet.fill('');
  await sheet.pressSequentially(BEGINNING.slice(0, 20));
  await sheet.fill(BEGINNING);
  if (!(await page.getByLabel('Length').isVisible())) await page.locator('#options summary').click();
  await page.getByLabel('Length').fill('60');
  await page.getByLabel('Seed').fill('7');
  const shown = await page.locator('.copy').textContent();
  assert.equal(shown, `${BEGINNING}\u200b`);

  await page.getByRole('button', { name: 'Continue', exact: true }).click();
  await idle(page);
  const first = await text(page);
  assert.ok(first.startsWith(BEGINNING) && first.length > BEGINNING.length + 20, first);
  assert.equal(await page.locator('.copy .written').textContent(), first.slice(BEGINNING.length));
  await page.getByRole('button', { name: 'Undo' }).click();
  assert.equal(await text(page), BEGINNING);
  await page.getByRole('button', { name: 'Redo' }).click();
  assert.equal(await text(page), first);

  // The same by keyboard, and the same seed writes the same.
  await sheet.focus();
  await page.keyboard.press('Control+z');
  assert.equal(await text(page), BEGINNING);
  await page.keyboard.press('Control+Enter');
  await page.waitForFunction((n) => document.querySelector('.sheet textarea').value.length > n, BEGINNING.length);
  await idle(page);
  assert.equal(await text(page), first, 'one seed, one text');

  // Stop keeps what was written. Small models are too quick to be stopped, but not over a slow line.
  const line = await page.context().newCDPSession(page);
  const slow = (bytes) => line.send('Network.emulateNetworkConditions', { offline: false, latency: 0, downloadThroughput: bytes, uploadThroughput: -1 });
  await slow(4000);
  await page.getByLabel('Length').fill('1000');
  await page.getByRole('button', { name: 'Continue', exact: true }).click();
  await page.waitForFunction((n) => document.querySelector('.sheet textarea').value.length > n, first.length + 5);
  await page.getByRole('button', { name: 'Stop' }).click();
  await idle(page);
  await slow(-1);
  const stopped = await text(page);
  assert.ok(stopped.length > first.length);
  await page.getByRole('button', { name: 'Undo' }).click();
  assert.equal(await text(page), first);

  await page.getByLabel('Length').fill('60');
  await page.getByRole('button', { name: 'Offer three' }).click();
  await idle(page);
  const offers = page.locator('.offer');
  assert.equal(await offers.count(), 3);
  const second = await offers.nth(1).textContent();
  await offers.nth(1).click();
  assert.equal(await text(page), first + second);
  assert.equal(await offers.count(), 0);

  await page.getByRole('button', { name: 'Word by word' }).click();
  for (let i = 0; i < 3; i += 1) {
    const before = await text(page);
    await page.locator('.pick').first().waitFor();
    await page.locator('.pick').nth(i).click();
    assert.ok((await text(page)).length > before.length);
    await page.waitForTimeout(500);
  }
  const last = await text(page);
  await page.waitForTimeout(400);
  await page.reload();
  await page.waitForFunction(() => document.querySelector('#write-model option'));
  assert.equal(await text(page), last, 'the text is kept');
  await page.getByRole('button', { name: 'Offer three' }).click();
  await idle(page);
}
