// Who started what, links that lead back, and what ran once more. It goes on with the server of dashboard.spec.ts.
import { expect } from '@playwright/test';
import { ids, test } from './story';

test.describe.configure({ mode: 'serial' });

const BOB = 'Audrey (bob@example.com)';

test('what a person started is found by that person, and the filter is kept on every way back', async ({ page }) => {
  await page.goto('/history');
  const rows = page.locator('tbody tr');
  await expect(rows.first()).toBeVisible();
  await page.getByLabel('Who').selectOption(BOB);
  await expect(page).toHaveURL(/\/history\?by=[0-9a-f-]{36}$/);
  const filtered = page.url();
  await expect(rows).toHaveCount(1);
  await expect(rows).toContainText(BOB);
  await page.reload();
  await expect(rows).toHaveCount(1);

  // By the tabs, by the entries of the frame, and by who is named at an execution.
  const tabs = page.getByRole('navigation', { name: 'Jobs' });
  await tabs.getByRole('link', { name: 'Jobs' }).click();
  await expect(page).toHaveURL('/jobs');
  await tabs.getByRole('link', { name: 'History' }).click();
  await expect(page).toHaveURL(filtered);
  await page.getByRole('link', { name: 'Fleet' }).first().click();
  await page.keyboard.press('g');
  await page.keyboard.press('h');
  await expect(page).toHaveURL(filtered);
  await rows.getByRole('link', { name: 'hello' }).click();
  await page.getByRole('link', { name: `by ${BOB}` }).click();
  await expect(page).toHaveURL(filtered);
  await page.getByLabel('Who').selectOption('You');
  await expect(rows.first()).toContainText('Ada');
  await expect(page.getByRole('cell', { name: BOB })).toHaveCount(0);
  await page.getByLabel('Started by').selectOption('Retries');
  await expect(page).toHaveURL(/trigger=retry/);
  await expect(rows).toHaveCount(1);
  await page.getByRole('link', { name: 'Reset' }).click();
  await expect(page).toHaveURL('/history');
});

test('a bar of the chart narrows the list to its time, and the time is taken away again', async ({ page }) => {
  await page.goto('/history');
  const bar = page.getByRole('group', { name: 'Executions over time' }).getByRole('button', { disabled: false }).first();
  await bar.click();
  await expect(page).toHaveURL(/from=\d+&until=\d+/);
  await page.getByRole('button', { name: /^Any time:/ }).click();
  await expect(page).toHaveURL('/history');
});

test('the list is narrowed to the agents of a target, and a wrong target says what is wrong', async ({ page }) => {
  await page.goto('/history');
  const target = page.getByLabel('Target, such as tag:web');
  await target.fill('tag:nowhere');
  await target.press('Enter');
  await expect(page).toHaveURL(/on=tag/);
  await expect(page.getByText('Nothing matches these filters')).toBeVisible();
  await target.fill('all');
  await target.press('Enter');
  await expect(page.locator('tbody tr').first()).toBeVisible();
  await target.fill('tag:');
  await target.press('Enter');
  await expect(page.getByRole('alert')).toBeVisible();
  await page.getByRole('link', { name: 'Reset' }).click();
  await expect(page).toHaveURL('/history');
});

test('a search of the fleet is kept while its agents are looked at', async ({ page }) => {
  await page.goto('/fleet?q=tag%3Ashop');
  await page.getByRole('link', { name: 'shop-2' }).click();
  await expect(page.getByRole('heading', { name: 'shop-2' })).toBeVisible();
  await page.getByRole('main').getByRole('link', { name: 'Fleet' }).click();
  await expect(page).toHaveURL('/fleet?q=tag%3Ashop');
  await expect(page.getByRole('searchbox')).toHaveValue('tag:shop');
  // Chosen again, the entry shows everything, and the field says so.
  await page.getByRole('link', { name: 'Fleet' }).first().click();
  await expect(page).toHaveURL('/fleet');
  await expect(page.getByRole('searchbox')).toHaveValue('');
  await expect(page.getByRole('row')).toHaveCount(5);
});

test('what ran is run again with everything that it had, and a reload loses nothing', async ({ page }) => {
  await page.goto(`/executions/${ids().execution}`);
  await page.getByRole('link', { name: 'Run again…' }).click();
  await expect(page.locator('select#script')).toHaveValue('deploy');
  await expect(page.getByLabel('VERSION')).toHaveValue('1.4.2');
  await expect(page.getByText('1 agent', { exact: true })).toBeVisible();

  await page.goto(`/jobs/${ids().job}`);
  await page.getByRole('link', { name: 'Run again…' }).click();
  await expect(page.getByLabel('Target')).toHaveValue('tag:shop');
  await page.getByLabel('VERSION').fill('2.0');
  await page.locator('summary').click();
  await page.getByLabel('Size of a wave').fill('50%');
  await expect(page).toHaveURL(/waves=50%25/);
  await page.reload();
  await expect(page.getByLabel('VERSION')).toHaveValue('2.0');
  await expect(page.getByLabel('Target')).toHaveValue('tag:shop');
  await expect(page.getByText('In waves of 50%.')).toBeVisible();
  await expect(page.getByRole('button', { name: 'Run on 3 agents' })).toBeEnabled();
});

test('a selection that another tab made is never all agents', async ({ context }) => {
  const other = await context.newPage();
  await other.goto('/run?selection=kept&script=check');
  await expect(other.getByText('known only in the tab')).toBeVisible();
  await expect(other.getByRole('button', { name: 'Run…' })).toBeDisabled();
  await other.close();
});

test('the number on the button is of the target on the screen, and who would refuse is named', async ({ page }) => {
  await page.goto('/run?q=name:shop-1&script=check');
  await expect(page.getByRole('button', { name: 'Run on 1 agent' })).toBeEnabled();
  let answer: () => void = () => undefined;
  const held = new Promise<void>((resolve) => (answer = resolve));
  await page.route('**/api/targets/preview', async (route) => {
    await held;
    await route.continue();
  });
  await page.getByLabel('Target').fill('tag:shop');
  await expect(page.getByText('Counting agents.')).toBeVisible();
  await expect(page.getByRole('button', { name: /^Run on/ })).toBeDisabled();
  answer();
  await expect(page.getByRole('button', { name: 'Run on 3 agents' })).toBeEnabled();
  await page.unrouteAll({ behavior: 'wait' });
  await page.goto('/run?q=tag:shop&script=nowhere');
  await expect(page.getByText('3 would refuse')).toBeVisible();
  await expect(page.getByText('The server refuses all of it')).toBeVisible();
});

test('the ladder asks for the number in the form, and takes it', async ({ page }) => {
  const setLadder = (steps: object[]): Promise<number> =>
    page.evaluate((body) => fetch('/api/access/ladder', { method: 'PUT', headers: { 'content-type': 'application/json' }, body }).then((answer) => answer.status), JSON.stringify({ steps }));
  expect(await setLadder([{ from_agents: 2, demand: 'confirm' }])).toBe(200);
  await page.goto('/run?q=tag:shop&script=check');
  const run = page.getByRole('button', { name: 'Run on 3 agents' });
  await expect(page.getByText('Type 3 to confirm.')).toBeVisible();
  await expect(run).toBeDisabled();
  await page.getByLabel('Type 3 to confirm.').fill('3');
  await run.click();
  await expect(page).toHaveURL(/\/jobs\//);
  await expect(page.getByText('1 of 3 executions did not succeed.')).toBeVisible();
  // A schedule asks in a dialog.
  await page.goto('/schedules/new?q=tag:shop&script=hello');
  await page.getByLabel('Name').fill('asked');
  await page.getByLabel('Cron').fill('0 4 * * *');
  await page.getByRole('button', { name: 'Create the schedule' }).click();
  const dialog = page.getByRole('dialog', { name: 'This reaches 3 agents' });
  await dialog.getByLabel('Type 3 to confirm.').fill('3');
  await dialog.getByRole('button', { name: 'Confirm' }).click();
  await expect(page.getByRole('heading', { name: 'asked', level: 1 })).toBeVisible();
  await page.getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await expect(page).toHaveURL('/schedules');
  expect(await setLadder([])).toBe(200);
});

test('a link to a line leads to the line, and one stream is shown alone', async ({ page }) => {
  await page.goto(`/executions/${ids().execution}`);
  const log = page.getByRole('log');
  await log.getByText('2', { exact: true }).click();
  await expect(page).toHaveURL(/#L2$/);
  await log.getByText('3', { exact: true }).click({ modifiers: ['Shift'] });
  await expect(page).toHaveURL(/#L2-3$/);
  await page.reload();
  await expect(page.getByRole('button', { name: 'Copy the link to lines 2–3' })).toBeVisible();
  await page.goto(`/history?script=check&state=failed`);
  await page.locator('tbody').getByRole('link', { name: 'check' }).first().click();
  await expect(log).toContainText('checking');
  await page.getByLabel('Both streams').selectOption('Only stderr');
  await expect(page).toHaveURL(/stream=stderr/);
  await expect(log).toContainText('disk is full');
  await expect(log).not.toContainText('checking');
});

test('what was cancelled is not retried with what failed', async ({ page }) => {
  // A rollout that halts at its failure, and whose rest is cancelled.
  await page.goto('/run?q=tag:shop&script=check&waves=1&failures=0');
  await page.getByRole('button', { name: 'Run on 3 agents' }).click();
  await expect(page.getByText(/^Halted: 1 failed/)).toBeVisible();
  await page.getByRole('button', { name: 'Cancel the job' }).click();
  await expect(page.getByText('1 of 3 executions did not succeed.')).toBeVisible();
  await page.getByRole('button', { name: 'Retry on the 1 agent that failed' }).click();
  await expect(page.getByRole('link', { name: 'the job that it retries' })).toBeVisible();
  await expect(page.getByText('1 agent', { exact: true }).first()).toBeVisible();
  await expect(page.getByText('1 of 1 executions did not succeed.')).toBeVisible();
});
