// The dashboard in a real browser, with the real server and real agents.
import { expect } from '@playwright/test';
import { ask, checkScreens, EMAIL, ids, PASSWORD, test, TWO_LOOKS, violationsOf } from './story';

test.describe.configure({ mode: 'serial' });
test.use({ account: null });

test('a set-up token makes the first owner, who adds an agent and sees its first output, on a phone with the keyboard alone', async ({ page }) => {
  const { keyboard } = page;
  await page.setViewportSize({ width: 390, height: 844 });
  await page.goto(`/set-up#token=${process.env.MUSTER_SETUP_TOKEN}`);
  await expect(page).toHaveURL('/set-up');
  // The token is there: the cursor is in the first field that is empty.
  await expect(page.getByLabel('Your name')).toBeFocused();
  for (const text of ['Ada', EMAIL, PASSWORD]) {
    await keyboard.type(text);
    await keyboard.press(text === PASSWORD ? 'Enter' : 'Tab');
  }

  await expect(page.getByRole('heading', { name: 'Add an agent' })).toBeVisible();
  await expect(page.getByLabel('Name of the key')).toBeFocused();
  await keyboard.type('first');
  await keyboard.press('Tab');
  await keyboard.type('web eu');
  await keyboard.press('Enter');
  await expect(page.getByText('Waiting for the agent')).toBeVisible();
  await expect(page.getByRole('button', { name: 'Copy' })).toBeFocused();
  await expect(page.getByText('leads only to the machine of the server')).toBeVisible();
  expect(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)).toBe(false);
  const line = await page.locator('pre').first().innerText();

  // A phone loads the page again when a person comes back to it: the key is not shown again, and the wait goes on.
  await page.reload();
  await expect(page.getByText('The line with the key was shown once')).toBeVisible();
  await expect(page.getByText('Waiting for the agent')).toBeVisible();
  await expect(page.getByRole('main')).not.toContainText('mst_agent_');
  await ask('start_agent', /mst_agent_\w+/.exec(line)![0]);
  await expect(page.getByRole('button', { name: 'Run hello' })).toBeFocused();
  await keyboard.press('Enter');
  await expect(page.getByRole('log')).toContainText('hello from first');
  await expect(page.getByText('That is all.')).toBeVisible();
  await expect(page.getByRole('link', { name: 'Open the execution' })).toBeFocused();
  await page.reload();
  await expect(page.getByRole('log')).toContainText('hello from first');
  await page.setViewportSize({ width: 1440, height: 900 });
});

test('a person signs out and in, and a wrong password says so', async ({ page }) => {
  await page.getByRole('button', { name: /Ada/ }).click();
  await page.getByRole('menuitem', { name: 'Sign out' }).click();
  await page.getByLabel('Email').fill(EMAIL);
  await page.getByLabel('Password').fill('wrong horse battery');
  await page.getByRole('button', { name: 'Sign in', exact: true }).click();
  await expect(page.getByRole('alert')).toHaveText('The email or the password is wrong.');
  await page.getByLabel('Password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Sign in', exact: true }).click();
  await expect(page.getByRole('heading', { name: 'Overview' })).toBeVisible();
  expect(await page.evaluate(() => document.cookie)).toBe('');
  // Who is signed in goes on from the pages of those who are not.
  await page.goto('/sign-in');
  await expect(page).toHaveURL('/');
  await expect(page.getByRole('heading', { name: 'Overview' })).toBeVisible();
});

test('a script runs on three hosts and is watched to its end, with the keyboard alone', async ({ page }) => {
  await page.goto('/');
  await expect(page.getByRole('heading', { name: 'Overview' })).toBeVisible();
  await page.keyboard.press('Control+k');
  await page.getByPlaceholder('Find an agent, a job or an action').fill('Run a');
  await page.keyboard.press('Enter');
  const target = page.getByLabel('Target');
  await target.focus();
  await target.fill('tag:');
  await target.fill('tag:shop & status:online &');
  await expect(page.locator('#target-error')).toBeVisible();
  await target.fill('tag:shop');
  await expect(page.getByText('3 agents', { exact: true })).toBeVisible();
  await page.locator('select#script').selectOption('deploy');
  await expect(page.getByText('Missing: VERSION.').first()).toBeVisible();
  await page.getByLabel('VERSION').focus();
  await page.keyboard.type('1.4.2');
  const run = page.getByRole('button', { name: 'Run on 3 agents' });
  await expect(run).toBeEnabled();
  await run.focus();
  await page.keyboard.press('Enter');

  await expect(page).toHaveURL(/\/jobs\//);
  await expect(page.getByText('All 3 executions are over.')).toBeVisible();
  await expect(page.getByRole('link', { name: /· succeeded/ })).toHaveCount(3);
  await expect(page.getByText('released 1.4.2')).toBeVisible();
  await page.getByRole('link', { name: /shop-2 · succeeded/ }).click();
  await expect(page.getByRole('log')).toContainText('step 3');
  await expect(page.getByText('exit code 0')).toBeVisible();
  // Colours are styles, not characters.
  await expect(page.getByRole('log').getByText('step 3')).not.toContainText('[32m');
});

test('outputs are grouped by equality, and what failed is retried', async ({ page }) => {
  await page.goto('/run?q=tag:shop&script=check');
  await page.getByRole('button', { name: 'Run on 3 agents' }).click();
  await expect(page.getByText('1 of 3 executions did not succeed.')).toBeVisible();
  await expect(page.getByText('2 identical, 1 differs')).toBeVisible();
  const first = page.url();
  await page.getByRole('button', { name: 'Retry on the 1 agent that failed' }).click();
  await expect(page).not.toHaveURL(first);
  await expect(page.getByText('1 of 1 executions did not succeed.')).toBeVisible();
});

test('the server is killed while a script runs, and the page goes on without losing or repeating a line', async ({ page }) => {
  await page.goto('/run?q=name:shop-1&script=count');
  await page.getByRole('button', { name: 'Run on 1 agent' }).click();
  await page.getByRole('link', { name: /shop-1 · running/ }).click();
  await expect(page.getByRole('log')).toContainText('line 0005');
  await ask('kill_server');
  await expect(page.getByText(/offline since/)).toBeVisible();
  await ask('start_server');
  await ask('finish_count');
  await expect(page.getByText('live', { exact: true })).toBeVisible();
  await expect(page.getByText('succeeded').first()).toBeVisible({ timeout: 60_000 });
  await expect(page.getByText('40 lines')).toBeVisible();
  await page.getByRole('log').evaluate((log) => log.scrollTo(0, 0));
  const lines = await page.getByRole('log').getByText(/^line \d{4}$/).allInnerTexts();
  expect(lines).toEqual(Array.from({ length: 40 }, (_, i) => `line ${String(i + 1).padStart(4, '0')}`));
});

test('filters of the fleet and of the history are in the address, and survive a reload', async ({ page }) => {
  await page.goto('/fleet');
  await expect(page.getByText('4 of 4 online')).toBeVisible();
  await page.getByRole('searchbox').fill('tag:shop & !name:shop-3');
  await expect(page.getByText('2 of 4', { exact: true })).toBeVisible();
  await page.reload();
  await expect(page.getByRole('link', { name: 'shop-1' })).toBeVisible();
  await expect(page.getByRole('link', { name: 'shop-3' })).toHaveCount(0);
  await page.getByLabel('Select all 2').check();
  await expect(page.getByRole('region', { name: 'Selected agents' })).toContainText('2 of 4');
  await page.getByRole('button', { name: 'Run on 2 agents' }).click();
  await expect(page.getByText('2 agents chosen in the list.')).toBeVisible();

  await page.goto('/history');
  await page.getByRole('button', { name: 'failed' }).click();
  await expect(page).toHaveURL('/history?state=failed');
  await expect(page.locator('tbody tr')).toHaveCount(2);
  await page.goBack();
  await page.goForward();
  await page.reload();
  await expect(page.locator('tbody tr')).toHaveCount(2);
});

test('an agent that goes offline and comes back is seen at once', async ({ page }) => {
  await page.goto('/fleet?q=shop-3');
  await expect(page.getByRole('row').filter({ hasText: 'shop-3' })).toContainText('online');
  await ask('stop_agent');
  await expect(page.getByRole('row').filter({ hasText: 'shop-3' })).toContainText('offline');
  await ask('resume_agent');
  await expect(page.getByRole('row').filter({ hasText: 'shop-3' })).toContainText('online');
});

test('the network of the browser is lost and comes back, and nothing that happened meanwhile is missing', async ({ page, context }) => {
  await page.goto('/fleet?q=shop-3');
  const row = page.getByRole('row').filter({ hasText: 'shop-3' });
  await expect(row).toContainText('online');
  await expect(page.getByText('live', { exact: true })).toBeVisible();
  await context.setOffline(true);
  await expect(page.getByText(/offline since/)).toBeVisible();
  await ask('stop_agent');
  await expect(row).toContainText('online');
  await context.setOffline(false);
  await expect(page.getByText('live', { exact: true })).toBeVisible();
  await expect(row).toContainText('offline');
  await ask('resume_agent');
  await expect(row).toContainText('online');
});

test('what a host says is shown as text', async ({ page }) => {
  await page.goto('/run?q=name:shop-1&script=hostile');
  await page.getByRole('button', { name: 'Run on 1 agent' }).click();
  await page.getByRole('link', { name: /shop-1 · succeeded/ }).click();
  const log = page.getByRole('log');
  await expect(log).toContainText('<img src=x onerror=alert(1)>');
  await expect(log).toContainText('bidi \\u{202e} evil');
  await expect(log.locator('img')).toHaveCount(0);
  await page.goto('/fleet');
  await page.getByRole('link', { name: 'shop-1' }).click();
  await page.getByRole('link', { name: 'Scripts' }).click();
  await expect(page.getByText('<b>bold</b>')).toBeVisible();
  expect(await page.evaluate(() => document.querySelectorAll('main b, main img').length)).toBe(0);
});

test('facts that a host reports are shown as text, follow its files, and choose agents and columns of the fleet', async ({ page }) => {
  await page.goto('/fleet');
  await page.getByRole('link', { name: 'shop-1' }).click();
  const facts = page.getByRole('region', { name: 'Reported by the host' });
  await expect(facts.getByText('kernel', { exact: true })).toBeVisible();
  await expect(facts).toContainText('80, 443');
  // The server has removed what is invisible, and the page makes no elements of the rest.
  await expect(facts).toContainText('<img src=x onerror=alert(1)> evil[31m');
  await expect(facts).toContainText('`<b>bold</b>`: a name must have');
  await expect(facts.locator('img, b')).toHaveCount(0);

  await page.goto('/fleet');
  const search = page.getByRole('searchbox');
  await search.fill('fact:ro');
  await expect(page.getByRole('button', { name: 'role Tab' })).toBeVisible();
  await search.press('Tab');
  await expect(search).toHaveValue('fact:role=');
  await search.fill('fact:role=front');
  await expect(page.getByText('1 of 4', { exact: true })).toBeVisible();
  await expect(page.getByRole('link', { name: 'shop-1' })).toBeVisible();
  await search.fill('tag:shop & fact:role!=front');
  await expect(page.getByText('2 of 4', { exact: true })).toBeVisible();
  await page.getByRole('button', { name: 'Columns' }).click();
  await page.getByRole('menuitemcheckbox', { name: 'role', exact: true }).click();
  await page.keyboard.press('Escape');
  await page.reload();
  await expect(page.getByRole('columnheader', { name: 'role' })).toBeVisible();
  await expect(page.getByRole('row').filter({ hasText: 'shop-2' })).toContainText('back');

  await page.goto('/fleet?q=shop-1');
  await page.getByRole('link', { name: 'shop-1' }).click();
  await expect(facts.getByText('front', { exact: true })).toBeVisible();
  await ask('change_role', 'middle');
  await expect(facts.getByText('middle', { exact: true })).toBeVisible({ timeout: 60_000 });
});

test('two tabs share one stream of events', async ({ page, context }) => {
  const other = await context.newPage();
  const streams: string[] = [];
  for (const tab of [page, other]) tab.on('request', (request) => request.url().endsWith('/api/events') && streams.push(request.url()));
  await other.goto('/fleet');
  await expect(other.getByText('live', { exact: true })).toBeVisible();
  expect(streams).toEqual([]);
  await other.goto('/jobs');
  await page.goto('/run?q=name:shop-2&script=hello');
  await page.getByRole('button', { name: 'Run on 1 agent' }).click();
  await expect(other.getByRole('link', { name: 'hello' }).first()).toBeVisible();
  await other.close();
});

const SCREENS: [name: string, path: () => string][] = [
  ['overview', () => '/'],
  ['fleet', () => '/fleet'],
  ['add-agent', () => '/fleet/add'],
  ['agent', () => `/fleet/${ids().agent}`],
  ['agent-scripts', () => `/fleet/${ids().agent}?tab=scripts`],
  ['agent-events', () => `/fleet/${ids().agent}?tab=events`],
  ['run', () => '/run?q=tag:shop&script=deploy'],
  ['jobs', () => '/jobs'],
  ['job', () => `/jobs/${ids().job}`],
  ['job-list', () => `/jobs/${ids().job}?tab=list`],
  ['execution', () => `/executions/${ids().execution}`],
  ['history', () => '/history'],
  ['schedules', () => '/schedules'],
  ['calendar', () => '/schedules?view=calendar'],
  ['schedule-new', () => '/schedules/new?q=tag:shop&script=hello'],
  ['schedule-edit', () => `/schedules/${ids().schedule}/edit`],
  ['schedule', () => `/schedules/${ids().schedule}`],
  ['approvals', () => '/approvals'],
  ['approval-rules', () => '/approvals/rules'],
  ['approval', () => `/approvals/${ids().approval}`],
  ['updates', () => '/updates'],
  ['group-new', () => '/updates/groups/new'],
  ['audit', () => '/audit'],
  ['members', () => '/settings'],
  ['api-keys', () => '/settings/api-keys'],
  ['agent-keys', () => '/settings/agent-keys'],
  ['account', () => '/settings/account'],
  ['device', () => '/device'],
  ['sessions', () => '/settings/sessions'],
  ['missing', () => '/nothing-here'],
];

test('no screen has a violation of accessibility, in either theme and on a phone', async ({ page }) => {
  test.setTimeout(420_000);
  await ask('make_examples');
  await checkScreens(page, SCREENS.map(([name, path]) => [name, path()]), TWO_LOOKS);
});

test('an auditor sees the fleet and the audit, and nothing to run', async ({ newVisitor }) => {
  const { auditor_email: email } = ids();
  const visitor = await newVisitor();
  for (const path of ['/set-up', '/register', '/register?registration=1', '/reset', '/reset?step=complete', '/accept', '/audit']) {
    await visitor.goto(path);
    await expect(visitor.getByRole('heading', { level: 1 })).toBeVisible();
    expect(await violationsOf(visitor)).toEqual([]);
  }
  await visitor.getByLabel('Email').fill(email!);
  await visitor.getByLabel('Password').fill(PASSWORD);
  await visitor.getByRole('button', { name: 'Sign in', exact: true }).click();
  await expect(visitor.getByRole('heading', { name: 'Audit' })).toBeVisible();
  await visitor.getByRole('button', { name: 'Verify the chain' }).click();
  await expect(visitor.getByText(/All \d+ entries are intact/)).toBeVisible();
  await expect(visitor.getByRole('link', { name: 'Run', exact: true })).toHaveCount(0);
  await visitor.goto('/run');
  await expect(visitor.getByText('Your role can look, and not run.')).toBeVisible();
  await visitor.goto(`/approvals/${ids().approval}`);
  await expect(visitor.getByText('Your role can look, and not decide.')).toBeVisible();
});

test('a second person approves with the keyboard alone, and the job runs', async ({ page }) => {
  await page.setViewportSize({ width: 1440, height: 900 });
  await page.goto('/');
  await page.getByRole('link', { name: /Review/ }).focus();
  await page.keyboard.press('Enter');
  await page.getByLabel('Reason').focus();
  await page.keyboard.type('checked');
  await page.keyboard.press('Tab');
  await expect(page.getByRole('button', { name: 'Refuse' })).toBeFocused();
  await page.keyboard.press('Tab');
  await expect(page.getByRole('button', { name: 'Approve for 1 agent' })).toBeFocused();
  await page.keyboard.press('Enter');
  await expect(page.getByText('approved').first()).toBeVisible();
  await page.getByRole('link', { name: 'Job', exact: true }).click();
  await expect(page.getByText('The execution is over.')).toBeVisible();
});

test('the words change to German', async ({ page }) => {
  await page.goto('/fleet');
  await page.getByRole('button', { name: /Ada/ }).click();
  await page.getByRole('menuitemradio', { name: 'Deutsch' }).click();
  await expect(page.getByRole('heading', { name: 'Flotte' })).toBeVisible();
  expect(await page.evaluate(() => document.documentElement.lang)).toBe('de');
});
