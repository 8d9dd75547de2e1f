const TEXT = '"It is raining," said Peg, and she was right. Zyx!';

/** The same beginning by all models, and a text coloured by each. */
export async function compare(page, { assert }) {
  await page.getByRole('tab', { name: 'Compare' }).click();
  await page.locator('#beginning').fill('The door opened, and');
  const models = await page.locator('#compare-models input').count();
  await page.getByRole('button', { name: 'Continue with each' }).click();
  await page.waitForFunction(() => document.querySelector('#compare-stop').hidden, null, { timeout: 180000 });
  const texts = await page.locator('#columns article .prose').allTextContents();
  assert.equal(texts.length, models);
  assert.ok(texts.every((text) => text.startsWith('The door opened, and') && text.length > 40), texts.join(' | '));

  await page.locator('#judged').fill(TEXT);
  await page.getByRole('button', { name: 'Colour it' }).click();
  await page.waitForFunction((n) => document.querySelectorAll('#judgements .tokens').length === n, models, { timeout: 180000 });
  for (let i = 0; i < models; i += 1) {
    const card = page.locator('#judgements article').nth(i);
    assert.equal(await card.locator('.tokens').textContent(), TEXT, 'the tokens are the text');
    assert.match(await card.textContent(), /\d\.\d\d bits a character/);
    await card.locator('.tokens').focus();
    await page.keyboard.press('End');
    await page.keyboard.press('ArrowLeft');
    assert.ok((await card.locator('.readout li').count()) >= 5);
    assert.match(await card.locator('.readout').textContent(), /bits, probability/);
  }
  const span = page.locator('#judgements article').first().locator('.tokens span').nth(3);
  await span.hover();
  assert.ok((await span.getAttribute('class')).includes('on'));
}
