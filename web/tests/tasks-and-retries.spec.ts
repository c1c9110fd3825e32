// Packages that hosts run by themselves, executions that run once more, and where a job reports to. It goes on with the
// server of the other specs, and leaves it as it was.
import { expect } from '@playwright/test';
import { taskOf } from './archive';
import { checkScreen, checkScreens, ids, send, signIn, test, TWO_LOOKS } from './story';

test.describe.configure({ mode: 'serial' });

let windowsCalendar = '';
const screens: [name: string, path: string][] = [['assignments', '/library/assignments'], ['assignment-new', '/library/assignments/new?script=package:greeting@1.0.0&q=tag:shop'], ['agent-assignments', '']];

test('a package is assigned with the keyboard alone, and the page shows what each host reports', async ({ page }) => {
  const { keyboard } = page;
  await page.goto('/library/assignments');
  await expect(page.getByText('No assignments yet')).toBeVisible();
  await page.getByRole('main').getByRole('link', { name: 'New assignment' }).first().focus();
  await keyboard.press('Enter');
  // Other specs of this server may have saved scripts.
  await expect(page.getByText('Nothing can be assigned').or(page.getByLabel('Package or script'))).toBeVisible();
  for (const version of ['1.0.0', '1.1.0']) {
    const status = await page.evaluate((bytes) => fetch('/api/packages', { method: 'POST', headers: { 'content-type': 'application/octet-stream' }, body: new Uint8Array(bytes) }).then((answer) => answer.status), [...taskOf('greeting', version)]);
    expect(status).toBe(201);
  }

  await page.goto('/library/packages/greeting?version=1.0.0');
  await expect(page.getByText('task: hosts that it is assigned to run it')).toBeVisible();
  await expect(page.getByText('It is assigned to no hosts.')).toBeVisible();
  await page.getByRole('link', { name: 'Assign 1.0.0…' }).focus();
  await keyboard.press('Enter');
  await expect(page.getByLabel('Package or script')).toHaveValue('package:greeting@1.0.0');
  const button = page.getByRole('button', { name: 'Assign', exact: true });
  await expect(button).toBeDisabled();
  await page.getByLabel('Name').focus();
  await keyboard.type('hourly greeting');
  await page.getByLabel('Target').focus();
  await keyboard.type('tag:shop');
  await expect(page.getByText('Matches 3 agents now')).toBeVisible();
  await expect(page.getByText('Missing: WHO.')).toBeVisible();
  await page.getByLabel('WHO').focus();
  await keyboard.type('<b>world</b>');
  await expect(page.getByText('Hosts of the target get package:greeting@1.0.0')).toBeVisible();
  await keyboard.press('Enter');
  await expect(page.getByRole('heading', { name: 'hourly greeting', level: 1 })).toBeVisible();
  await expect(page.getByText('3 agents', { exact: true })).toBeVisible();
  await expect(page.getByRole('main').locator('b')).toHaveCount(0);
  screens.push(['assignment', new URL(page.url()).pathname], ['assignment-edit', `${new URL(page.url()).pathname}/edit`]);

  // These hosts allow no packages of the server, and report it.
  const hosts = page.getByRole('table', { name: 'Hosts' });
  await expect(async () => {
    await page.getByRole('button', { name: 'Refresh' }).click();
    await expect(hosts.getByRole('row').filter({ hasText: 'library_not_allowed' })).toHaveCount(3, { timeout: 1_000 });
  }).toPass({ timeout: 30_000 });
  await page.getByRole('button', { name: 'failed 3' }).click();
  await expect(page).toHaveURL(/state=failed$/);
  await page.getByRole('button', { name: 'installed 0' }).click();
  await expect(page.getByText('No agent is in this state')).toBeVisible();
  await page.goBack();
});

test('states of hosts are shown by words and shapes, and what hosts wrote is text', async ({ page }) => {
  const path = screens.find(([name]) => name === 'assignment')![1];
  const states = ['installed', 'downloading', 'wanted', 'failed'];
  await page.route('**/api/assignments/*/agents?*', async (route) => {
    const answer = await route.fetch();
    const { items } = (await answer.json()) as { items: object[] };
    const made = states.map((state, i) => ({ ...items[0], agent_id: `01a20000-0000-7000-8000-00000000000${i}`, agent_name: `host-${i}`, state, is_connected: state !== 'wanted', error: state === 'failed' ? '<b>no room</b> \u202e' : null, error_code: state === 'failed' ? 'no_space' : null, skipped_count: i, reported_at: state === 'wanted' ? null : new Date().toISOString() }));
    await route.fulfill({ json: { items: made, next_cursor: null } });
  });
  await page.goto(path);
  const rows = page.getByRole('table', { name: 'Hosts' }).getByRole('row');
  await expect(rows).toHaveCount(5);
  await expect(page.getByRole('list', { name: 'Why it failed' })).toContainText('1 agent: <b>no room</b> \\u{202e}');
  await expect(rows.nth(1)).toContainText('no_space');
  await expect(rows.filter({ hasText: 'not reported' })).toContainText('it is offline, and gets it when it connects');
  await checkScreen(page, 'assignment-states-1440');
  await page.setViewportSize({ width: 390, height: 844 });
  await checkScreen(page, 'assignment-states-390');
  await page.setViewportSize({ width: 1440, height: 900 });
  await page.unrouteAll({ behavior: 'wait' });
});

test('an agent names its assignments, and a version that is assigned stays', async ({ page }) => {
  await page.goto('/fleet?q=shop-1');
  await page.getByRole('link', { name: 'shop-1' }).click();
  await page.getByRole('link', { name: 'Assignments' }).click();
  screens[2]![1] = new URL(page.url()).pathname + new URL(page.url()).search;
  await expect(page.getByRole('row').filter({ hasText: 'hourly greeting' })).toContainText('failed');
  await page.getByRole('link', { name: 'package:greeting@1.0.0' }).click();
  await expect(page.getByRole('region', { name: 'Assignments of this version' }).getByRole('link', { name: 'hourly greeting' })).toBeVisible();
  await page.getByRole('button', { name: 'Delete 1.0.0' }).click();
  const dialog = page.getByRole('dialog');
  await expect(dialog.getByText('It can’t be deleted while these have it:')).toBeVisible();
  await dialog.getByRole('button', { name: 'Delete' }).click();
  await expect(dialog.getByRole('alert')).toContainText('Assignments have this version.');
  await page.keyboard.press('Escape');
});

test('a version that fails in its first wave halts, and a person goes back', async ({ page }) => {
  await page.goto(screens.find(([name]) => name === 'assignment')![1]);
  await page.getByRole('link', { name: 'Change' }).click();
  await page.getByLabel('Package or script').selectOption('package:greeting@1.1.0');
  await page.getByLabel('Agents of a wave').fill('1');
  await page.getByRole('button', { name: 'Save' }).click();
  const rollout = page.getByRole('region', { name: 'Rollout' });
  await expect(rollout).toBeVisible();
  await expect(async () => {
    await page.reload();
    await expect(rollout.getByText('Halted: 1 failed, the limit is 0.')).toBeVisible({ timeout: 2_000 });
  }).toPass({ timeout: 30_000 });
  await expect(rollout.getByText('The other agents keep package:greeting@1.0.0.')).toBeVisible();
  await expect(rollout.getByText('1 of 3 agents have been reached')).toBeVisible();
  await checkScreen(page, 'assignment-rollout-1440');
  await page.setViewportSize({ width: 390, height: 844 });
  await checkScreen(page, 'assignment-rollout-390');
  await page.setViewportSize({ width: 1440, height: 900 });
  // No other version while it is under way.
  await page.getByRole('link', { name: 'Change' }).click();
  await page.getByLabel('Package or script').selectOption('package:greeting@1.0.0');
  await page.getByRole('button', { name: 'Save' }).click();
  await expect(page.getByRole('alert')).toBeVisible();
  await page.goBack();
  await rollout.getByRole('button', { name: 'Go back to the former version' }).focus();
  await page.keyboard.press('Enter');
  await expect(rollout).toHaveCount(0);
  await expect(page.getByRole('link', { name: 'package:greeting@1.0.0' })).toBeVisible();
});

test('an assignment gets another version and another target', async ({ page }) => {
  await page.goto('/library/assignments');
  await page.getByRole('link', { name: 'hourly greeting' }).click();
  await page.getByRole('link', { name: 'Change' }).click();
  await expect(page.getByLabel('Target')).toHaveValue('tag:shop');
  await expect(page.getByText('Parameters stay as they are')).toBeVisible();
  await page.getByLabel('Package or script').selectOption('package:greeting@1.1.0');
  await page.getByLabel('Target').fill('name:shop-1');
  await expect(page.getByText('Matches 1 agent now')).toBeVisible();
  await page.getByRole('button', { name: 'Save' }).click();
  await expect(page.getByText('1 agent', { exact: true })).toBeVisible();
  await expect(page.getByRole('link', { name: 'package:greeting@1.1.0' })).toBeVisible();
});

test('a script is assigned with a schedule, and runs at its due times', async ({ page }) => {
  const script = await send(page, 'POST', '/api/scripts', { name: 'usage', body: 'df\n', interpreter: 'sh', parameters: [{ name: 'PATH_TO_SHOW', default: '/' }] });
  await page.goto(`/library/${script.id}`);
  await page.getByRole('link', { name: 'Assign…' }).click();
  await expect(page.getByLabel('Package or script')).toHaveValue('library:usage@1');
  await page.getByLabel('Name').fill('hourly usage');
  await page.getByLabel('Target').fill('tag:shop');
  await page.getByLabel('PATH_TO_SHOW').fill('/srv');
  await page.getByLabel('Cron').fill('61 * * * *');
  await page.getByRole('button', { name: 'Assign', exact: true }).click();
  await expect(page.getByRole('alert')).toContainText('schedule.cron');
  await page.getByText('Every so often').click();
  await page.getByLabel('Every').first().fill('2');
  screens.push(['assignment-script-new', new URL(page.url()).pathname + new URL(page.url()).search]);
  await page.getByRole('button', { name: 'Assign', exact: true }).click();
  await expect(page.getByRole('heading', { name: 'hourly usage', level: 1 })).toBeVisible();
  const facts = page.getByRole('region', { name: 'Facts' });
  await expect(facts).toContainText('library:usage@1');
  await expect(facts).toContainText('every 2 h');
  await expect(facts).toContainText('PATH_TO_SHOW=/srv');
  screens.push(['assignment-script', new URL(page.url()).pathname]);
  await page.getByRole('link', { name: 'Change' }).click();
  await expect(page.getByText('Schedule and parameters stay as they are')).toBeVisible();
  await expect(page.getByLabel('Cron')).toHaveCount(0);

  // The script can't be deleted while it is assigned, and the page says by what.
  await page.goto(`/library/${script.id}`);
  await page.getByRole('button', { name: 'Delete' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('button', { name: 'Delete' }).click();
  await expect(dialog.getByRole('link', { name: 'hourly usage' })).toBeVisible();
});

test('an execution that failed is retried on its agent, and both name each other', async ({ page }) => {
  await page.goto('/history?script=check&state=failed');
  await page.locator('tbody').getByRole('link', { name: 'check' }).first().click();
  await expect(page.getByText('exit code 3')).toBeVisible();
  const first = page.url();
  await page.getByRole('button', { name: 'Retry on shop-2' }).focus();
  await page.keyboard.press('Enter');
  await expect(page).not.toHaveURL(first);
  await expect(page.getByText('exit code 3')).toBeVisible();
  await expect(page.getByRole('log')).toContainText('disk is full');
  await page.getByRole('link', { name: 'the execution that it retries' }).click();
  await expect(page).toHaveURL(first);
  // Another reason of the server is shown in words.
  await page.route('**/retry', (route) => route.fulfill({ status: 409, contentType: 'application/problem+json', json: { type: 'about:blank', title: 'Conflict', status: 409, code: 'secrets_gone', detail: 'the command had secret parameters' } }), { times: 1 });
  await page.getByRole('button', { name: 'Retry on shop-2' }).click();
  await expect(page.getByRole('alert')).toContainText('It had secret parameters, which are not stored.');
});

test('a job reports to a webhook, and shows what it got', async ({ page }) => {
  await page.goto('/run?q=name:shop-1&script=check');
  await page.locator('summary').click();
  await page.getByLabel('Webhook').fill('https://hooks.invalid/done?key=4711');
  await expect(page.getByText('Sends the result to hooks.invalid.')).toBeVisible();
  await page.getByRole('button', { name: 'Run on 1 agent' }).click();
  await expect(page).toHaveURL(/\/jobs\/[0-9a-f-]{36}$/);
  screens.push(['job-webhook', new URL(page.url()).pathname]);
  const webhook = page.getByRole('region', { name: 'Webhook' });
  await expect(webhook).toContainText('https://hooks.invalid/done');
  await expect(page.getByText('The execution is over.')).toBeVisible();
  await expect(async () => {
    await webhook.getByRole('button', { name: 'Refresh' }).click();
    await expect(webhook.getByText('job.finished')).toBeVisible({ timeout: 1_000 });
  }).toPass({ timeout: 30_000 });
  expect(await page.content()).not.toContain('4711');
});

test('the fleet shows the columns that a person chooses, and the address keeps them', async ({ page }) => {
  await page.goto('/fleet');
  await page.getByRole('button', { name: 'Columns' }).click();
  await page.getByRole('menuitemcheckbox', { name: 'Address', exact: true }).click();
  await page.getByRole('menuitemcheckbox', { name: 'Tags' }).click();
  await page.keyboard.press('Escape');
  await expect(page).toHaveURL('/fleet?columns=os%2Cversion%2Clast_seen_at%2Cip');
  await page.reload();
  await expect(page.getByRole('columnheader', { name: 'Address', exact: true })).toBeVisible();
  await expect(page.getByRole('columnheader', { name: 'Tags' })).toHaveCount(0);
  await expect(page.getByRole('row').filter({ hasText: 'shop-1' }).getByRole('cell').last()).toHaveText(/^[0-9a-f.:]{3,}$/);
  await page.getByRole('button', { name: 'Address' }).click();
  await expect(page.getByRole('columnheader', { name: 'Address', exact: true })).toHaveAttribute('aria-sort', 'ascending');
  screens.push(['fleet-columns', '/fleet?columns=arch%2Cip%2Cpolicy%2Ctransport']);
  await page.goto('/fleet');
});

test('a freeze and windows are seen in the week, and the overview names what happened last', async ({ page }) => {
  const nights = await send(page, 'POST', '/api/calendars', { name: 'nights', time_zone: 'Europe/Berlin', entries: [{ kind: 'window', weekly: { days: ['wed'], from: '22:00', until: '04:00' } }], schedule_ids: [ids().schedule] });
  await page.goto('/schedules?view=calendar');
  await expect(page.getByRole('link', { name: 'Freeze year-end' })).toHaveCount(7);
  await expect(page.getByRole('link', { name: /^held back.*hourly/ }).first()).toBeVisible();
  await expect(page.getByRole('link', { name: /^planned.*nightly/ }).first()).toBeVisible();
  const windows = page.getByRole('link', { name: 'Window nights' });
  await expect(windows).toHaveCount(7);
  await expect(windows.filter({ hasText: 'closed all day' })).toHaveCount(5);
  await expect(windows.filter({ hasText: 'open 22:00–24:00' })).toHaveCount(1);
  await expect(windows.filter({ hasText: 'open 00:00–04:00' })).toHaveCount(1);
  windowsCalendar = nights.id;
  screens.push(['calendar-freeze', '/schedules?view=calendar']);
  await page.goto('/');
  const events = page.getByRole('region', { name: 'Recent events' });
  await expect(events.getByRole('listitem')).toHaveCount(8);
  await expect(events).toContainText('job.submit');
});

test('an auditor sees assignments, and no button that changes them', async ({ newVisitor }) => {
  const auditor = await newVisitor();
  await signIn(auditor, ids().auditor_email!);
  await expect(auditor.getByRole('heading', { name: 'Overview' })).toBeVisible();
  for (const path of ['/library/assignments', screens.find(([name]) => name === 'assignment')![1], '/library/packages/greeting']) {
    await auditor.goto(path);
    await expect(auditor.getByText(/hourly greeting|package:greeting/).first()).toBeVisible();
    const name = /^(New |Assign \d|Change|Delete|Upload|Run)/;
    await expect(auditor.getByRole('main').getByRole('button', { name }), path).toHaveCount(0);
    await expect(auditor.getByRole('main').getByRole('link', { name }), path).toHaveCount(0);
  }
  await auditor.goto('/library/assignments/new');
  await expect(auditor.getByText('not change assignments')).toBeVisible();
});

test('none of these screens has a violation of accessibility or scrolls sideways, in both themes and on a phone', async ({ page }) => {
  test.setTimeout(240_000);
  await checkScreens(page, screens, TWO_LOOKS);
});

test('an assignment is deleted, and then its packages and scripts can be', async ({ page }) => {
  await page.goto('/library/assignments');
  await page.getByRole('link', { name: 'hourly greeting' }).click();
  await page.getByRole('button', { name: 'Delete' }).click();
  const dialog = page.getByRole('dialog', { name: 'Delete this assignment?' });
  await expect(dialog).toContainText('hourly greeting');
  await dialog.getByRole('button', { name: 'Delete' }).click();
  await expect(page.getByRole('link', { name: 'hourly greeting' })).toHaveCount(0);
  const assigned = await send(page, 'GET', '/api/assignments');
  for (const { id } of assigned.items) await send(page, 'DELETE', `/api/assignments/${id}`);
  await page.reload();
  await expect(page.getByText('No assignments yet')).toBeVisible();
  const scripts = await send(page, 'GET', '/api/scripts?name=usage');
  for (const { id } of scripts.items) await send(page, 'DELETE', `/api/scripts/${id}`);
  await send(page, 'DELETE', `/api/calendars/${windowsCalendar}`);
  const { items } = await send(page, 'GET', '/api/packages');
  for (const { id, name } of items) if (name === 'greeting') await send(page, 'DELETE', `/api/packages/${id}`);
});
