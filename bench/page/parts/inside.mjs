async function read(page, kind, text) {
  await page.getByRole('tab', { name: 'Look inside' }).click();
  const value = await page.locator('#inside-model option', { hasText: kind }).first().getAttribute('value');
  await page.locator('#inside-model').selectOption(value);
  if (text) await page.locator('#inside-text').fill(text);
  await page.getByRole('button', { name: 'Read it' }).click();
  await page.waitForFunction(() => document.querySelector('#inside-view h3')?.textContent, null, { timeout: 180000 });
}

/** An LSTM's cell: stepping, playing, scrubbing, another cell, one that follows the text. */
export async function lstm(page, { assert, first }) {
  await read(page, 'LSTM');
  if (first) {
    await page.getByRole('button', { name: 'Let the model write one' }).click();
    await page.waitForFunction(() => !document.querySelector('#inside-sample').disabled, null, { timeout: 180000 });
    await read(page, 'LSTM');
  }
  const text = await page.locator('#inside-text').inputValue();
  assert.equal(await page.locator('#inside-view .tokens').textContent(), text);
  const story = page.locator('#inside-view .story');
  assert.match(await story.textContent(), /the cell keeps .* c is now .* h is /);
  const begin = await story.textContent();
  await page.getByRole('button', { name: 'One token on' }).click();
  assert.notEqual(await story.textContent(), begin);
  await page.getByRole('button', { name: 'Play' }).click();
  await page.waitForTimeout(900);
  await page.getByRole('button', { name: 'Pause' }).click();
  assert.ok(Number(await page.getByRole('slider', { name: 'Place in the text' }).inputValue()) >= 3);
  await page.getByRole('slider', { name: 'Place in the text' }).fill('30');
  await page.locator('#inside-view .tokens').focus();
  await page.keyboard.press('ArrowRight');
  assert.equal(await page.getByRole('slider', { name: 'Place in the text' }).inputValue(), '31');
  await page.getByLabel('Cell', { exact: true }).fill('5');
  await page.getByLabel('Cell', { exact: true }).press('Enter');
  await page.waitForFunction(() => /cell 5$/.test(document.querySelector('#inside-view h3').textContent));
  const follower = page.locator('.follows button').first();
  await follower.click();
  await page.waitForFunction(() => document.querySelector('.follows button').getAttribute('aria-pressed') === 'true');
  assert.ok((await page.locator('.tokens [class^="p"], .tokens [class^="n"]').count()) > 10, 'the text is coloured');
  assert.equal(await page.locator('.strip .now').count(), 1);
}

/** A GPT-2's heads and lens. */
export async function gpt2(page, { assert }) {
  await read(page, 'GPT-2', '"Are you awake?" she asked. Nobody answered. "Are you awake?" she asked again, and the wind went round the house.');
  await page.waitForFunction(() => document.querySelector('#inside-view .matrix')?.width > 1);
  const heads = page.locator('.heads button');
  await heads.last().click();
  await page.waitForFunction(() => [...document.querySelectorAll('.heads button')].at(-1).getAttribute('aria-pressed') === 'true');
  await page.locator('#inside-view .tokens').focus();
  await page.keyboard.press('End');
  const at = (await page.locator('#inside-view .tokens span').count()) - 1;
  assert.match(await page.locator('#inside-view .story').textContent(), /this head looks at/);
  assert.ok((await page.locator('#inside-view .cell-view .bars li').count()) >= 3);
  assert.equal(await page.locator('.grid thead th').count(), at + 2);
  await page.locator('.grid thead button').nth(10).click();
  assert.ok((await page.locator('.lens .here').count()) > 2);
  const told = await page.locator('.lens .told').allTextContents();
  assert.ok(told.length >= 3 && told.every((line) => /%, place \d+/.test(line)), told.join());
  await heads.first().click();
}
