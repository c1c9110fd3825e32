// Retries, locks and standard input: in the form of a run, of a schedule, and on the page of a request for approval.
// It continues with the server of the other specs.
import { expect } from '@playwright/test';
import { checkScreens, FOUR_LOOKS, LATER_EMAIL, test } from './story';

test.describe.configure({ mode: 'serial' });
test.use({ account: LATER_EMAIL });
let approval = '';
let job = '';

test('what fails runs again as the form says, with its lock', async ({ page }) => {
  await page.goto('/run?q=name:shop-2&script=check');
  // The keyboard alone: open the options, and go through their fields.
  const { keyboard } = page;
  await expect(page.getByRole('button', { name: 'Run on 1 agent' })).toBeEnabled();
  await page.locator('summary').focus();
  await keyboard.press('Enter');
  await expect(page.getByLabel('Pause before the first retry')).toBeDisabled();
  // Waves, and the time limit; more failures need waves.
  for (const _ of ['wave', 'time', 'retries']) await keyboard.press('Tab');
  await expect(page.getByLabel('Retries', { exact: true })).toBeFocused();
  await keyboard.type('1');
  await keyboard.press('Tab');
  await keyboard.type('0.1');
  await keyboard.press('Tab');
  await expect(page.getByLabel('Lock', { exact: true })).toBeFocused();
  await keyboard.type('apt cache');
  await page.getByRole('button', { name: 'Run on 1 agent' }).click();
  // The browser refuses the name; nothing was sent.
  await expect(page).toHaveURL(/^[^?]*\/run\?/);
  await page.getByLabel('Lock', { exact: true }).fill('apt');
  await expect(page.getByText('What fails runs again once, after 100 ms.')).toBeVisible();
  await expect(page.getByText('One at a time with the lock apt on each agent.')).toBeVisible();
  await expect(page.getByText('The hosts do not let this script read standard input')).toBeVisible();
  await expect(page).toHaveURL(/retries=1.*lock=apt$/);
  await page.reload();
  await expect(page.getByLabel('Lock', { exact: true })).toHaveValue('apt');
  await page.getByRole('button', { name: 'Run on 1 agent' }).click();
  await expect(page.getByText('1 of 1 executions did not succeed.')).toBeVisible();
  await expect(page.getByText('1 retry', { exact: true })).toBeVisible();
  await expect(page.getByText('lock apt', { exact: true })).toBeVisible();
  await page.getByRole('link', { name: /shop-2 · failed/ }).click();
  await expect(page.getByText('attempt 2')).toBeVisible();
  await page.goBack();
  await page.getByRole('link', { name: 'Run again…' }).click();
  await expect(page.getByLabel('Retries', { exact: true })).toHaveValue('1');
  await expect(page.getByLabel('Pause before the first retry')).toHaveValue('0.1');
});

test('standard input is a text or a file, bounded, and its content is shown nowhere', async ({ page }) => {
  await page.goto('/run?q=name:shop-1&mode=argv&argv=cat');
  const input = page.getByRole('group', { name: 'Standard input' }).first();
  await input.getByRole('button', { name: 'File' }).click();
  await input.getByLabel('File of the input').setInputFiles({ name: 'large.bin', mimeType: 'application/octet-stream', buffer: Buffer.alloc(262_145, 1) });
  await expect(input.getByRole('alert')).toHaveText('The input is too large: at most 256 KiB.');
  await expect(page.getByRole('button', { name: 'Run on 1 agent' })).toBeDisabled();
  await input.getByLabel('File of the input').setInputFiles({ name: 'rows.csv', mimeType: 'text/csv', buffer: Buffer.alloc(262_144, 1) });
  await expect(page.getByText('Each gets 262 kB of standard input.')).toBeVisible();
  await input.getByRole('button', { name: 'Text' }).click();
  await input.getByLabel('Text of the input').fill('secret-rows\n');
  await expect(page.getByText('Each gets 12 B of standard input.')).toBeVisible();
  expect(page.url()).not.toContain('secret-rows');
  // The hosts of these tests run no commands: it is sent, and they refuse it.
  await page.locator('summary').click();
  await page.getByLabel('If hosts would refuse it').selectOption('send');
  await page.getByRole('button', { name: 'Run on 1 agent' }).click();
  await expect(page.getByText('12 B of input')).toBeVisible();
  await expect(page.getByText('1 of 1 executions did not succeed.')).toBeVisible();
  await page.getByRole('link', { name: 'Run again…' }).click();
  await expect(page.getByText('The work before had 12 B of standard input')).toBeVisible();
  await expect(page.getByText('secret-rows')).toHaveCount(0);
});

test('a schedule takes retries and a lock from the form, and keeps them', async ({ page }) => {
  await page.goto('/run?q=tag:shop&script=check&retries=3&backoff=30&lock=disk');
  await page.getByRole('link', { name: 'Schedule it…' }).click();
  await expect(page.getByLabel('Retries', { exact: true })).toHaveValue('3');
  await page.getByLabel('Name').fill('with-retries');
  await page.getByRole('button', { name: 'Create the schedule' }).click();
  await expect(page.getByRole('heading', { name: 'with-retries' })).toBeVisible();
  await expect(page.getByText('What fails runs again up to 3 times, after 30 s, 1 min, 2 min.')).toBeVisible();
  await page.getByRole('link', { name: 'Change' }).click();
  await expect(page.getByLabel('Pause before the first retry')).toHaveValue('30');
  await expect(page.getByLabel('Lock', { exact: true })).toHaveValue('disk');
  await page.getByLabel('Retries', { exact: true }).fill('0');
  await page.getByRole('button', { name: 'Save' }).click();
  await expect(page.getByRole('heading', { name: 'with-retries' })).toBeVisible();
  await page.getByRole('link', { name: 'Change' }).click();
  await expect(page.getByLabel('Retries', { exact: true })).toHaveValue('');
  await expect(page.getByLabel('Lock', { exact: true })).toHaveValue('disk');
  await page.getByRole('link', { name: 'Cancel' }).click();
  await page.getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await expect(page).toHaveURL('/schedules');
});

test('a person who approves sees retries, lock and hashes', async ({ page }) => {
  await page.goto('/approvals/rules');
  await page.getByRole('button', { name: 'Add a rule' }).first().click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Name').fill('checks');
  await dialog.getByLabel('Scripts').fill('check');
  await dialog.getByRole('button', { name: 'Add a rule' }).click();
  await expect(page.getByText('check on any agent')).toBeVisible();
  await page.goto('/run?q=name:shop-1&script=check&retries=2&backoff=30&lock=apt');
  await expect(page.getByText('Another person approves it first.')).toBeVisible();
  await page.getByRole('button', { name: 'Run on 1 agent' }).click();
  await expect(page.getByText('Waits until another person approves it.')).toBeVisible();
  job = page.url();
  await page.goto('/approvals');
  await page.getByRole('row').filter({ hasText: 'check' }).filter({ hasText: 'pending' }).getByRole('link').click();
  await expect(page.getByText('What fails runs again up to 2 times, after 30 s, 1 min.')).toBeVisible();
  await expect(page.getByText('apt', { exact: true })).toBeVisible();
  await expect(page.getByText('Data, SHA-256')).toBeVisible();
  await expect(page.getByText('You asked for this. Another person decides.')).toBeVisible();
  approval = new URL(page.url()).pathname;
});

test('these screens have no violation of accessibility and do not scroll sideways, in both themes and three widths', async ({ page }) => {
  test.setTimeout(180_000);
  const run = '/run?q=name:shop-1&script=check&retries=3&backoff=30&lock=apt';
  const screens = [['run-options', run], ['run-input', '/run?q=name:shop-1&mode=argv&argv=cat&lock=apt'], ['schedule-options', '/schedules/new?script=check&retries=3&lock=apt'], ['approval-options', approval]] as const;
  await checkScreens(page, screens, FOUR_LOOKS, async (name) => {
    if (name !== 'run-input') return;
    await page.getByRole('group', { name: /^Standard/ }).first().getByRole('button', { name: 'Text' }).click();
    await page.getByRole('textbox', { name: 'Text of the input' }).fill('a,b\n1,2\n');
  });
  await page.goto(job);
  await page.getByRole('button', { name: 'Cancel the job' }).click();
  await expect(page.getByRole('button', { name: 'Cancel the job' })).toHaveCount(0);
  await page.goto('/approvals/rules');
  await page.getByRole('button', { name: 'Delete checks' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await expect(page.getByText('check on any agent')).toHaveCount(0);
});
