const state = (page) => page.locator('#runs .story');

async function begin(page, name, kind, budget) {
  await page.locator('#train-file').setInputFiles(process.env.TRAIN);
  await page.locator('#train-kind').selectOption(kind);
  await page.locator('#train-budget').selectOption(String(budget));
  await page.locator('#train-name').fill(name);
  await page.getByRole('button', { name: 'Train', exact: true }).click();
  await page.waitForFunction((name) => document.querySelector('#run-heading')?.textContent === name, name);
}

async function report(page, assert) {
  const [opened] = await Promise.all([page.context().waitForEvent('page'), page.getByRole('link', { name: 'Its report' }).click()]);
  await opened.waitForLoadState();
  assert.match(await opened.locator('h1').first().textContent(), /\w/);
  await opened.close();
}

/** A run to its end, one that is stopped, one that cannot be; only where the server allows it and a text is named. */
export async function train(page, { assert, first }) {
  const tab = page.getByRole('tab', { name: 'Train' });
  if (!(await tab.isVisible())) return false;
  await tab.click();
  if (!process.env.TRAIN) return true;
  const stamp = Date.now().toString(36);
  if (first) {
    await begin(page, `lstm-${stamp}`, 'lstm', 60);
    await page.waitForFunction(() => document.querySelectorAll('.curve circle').length > 1, null, { timeout: 120000 });
    await page.waitForFunction(() => document.querySelector('.samples article'), null, { timeout: 120000 });
    // Whoever comes later sees what has happened so far.
    await page.reload();
    await page.getByRole('tab', { name: 'Train' }).click();
    await page.waitForFunction(() => document.querySelectorAll('.curve circle').length > 1);
    await page.waitForFunction(() => /is done/.test(document.querySelector('#runs .story').textContent), null, { timeout: 180000 });
    await report(page, assert);
    // The model has joined the others and writes.
    await page.getByRole('button', { name: 'Write with it' }).click();
    assert.equal(await page.locator('#write-model').inputValue(), `lstm-${stamp}`);
    const before = (await page.locator('#sheet textarea').inputValue()).length;
    await page.getByRole('button', { name: 'Continue', exact: true }).click();
    await page.waitForFunction((before) => document.querySelector('#sheet textarea').value.length > before + 20, before);
    await tab.click();
  }
  await begin(page, `gpt2-${stamp}`, 'gpt2', 180);
  await page.waitForFunction(() => /step/.test(document.querySelector('#runs .story').textContent), null, { timeout: 120000 });
  await page.getByRole('button', { name: 'Stop', exact: true }).click();
  await page.waitForFunction(() => /was stopped/.test(document.querySelector('#runs .story').textContent), null, { timeout: 60000 });
  await report(page, assert);
  // A name that is taken is refused in words.
  await page.locator('#train-name').fill(`gpt2-${stamp}`);
  await page.getByRole('button', { name: 'Train', exact: true }).click();
  await page.waitForFunction(() => /choose another name/.test(document.querySelector('#trouble').textContent));
  assert.match(await state(page).textContent(), /was stopped/);
  return true;
}
