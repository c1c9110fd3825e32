// What people do to agents, jobs, schedules and their own sign-ins while something runs, and how they get there with the
// keyboard. It continues with the server of the other specs, and leaves it as it was.
import { expect, type Page } from '@playwright/test';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ask, EMAIL, folder, send, signIn, test, violationsOf } from './story';

test.describe.configure({ mode: 'serial' });

async function openAgent(page: Page, name: string): Promise<void> {
  await page.goto(`/fleet?q=${name}`);
  await page.getByRole('link', { name, exact: true }).click();
  await expect(page.getByRole('heading', { name, level: 1 })).toBeVisible();
}
async function choose(page: Page, item: string): Promise<void> {
  await page.getByRole('button', { name: 'More actions' }).click();
  await page.getByRole('menuitem', { name: item }).click();
}

test('an agent answers a ping, restarts, and is not updated without a release', async ({ page }) => {
  await openAgent(page, 'shop-3');
  await page.getByRole('button', { name: 'Ping' }).click();
  await expect(page.getByText(/^answered in [\d,]+ ms$/)).toBeVisible();
  await choose(page, 'Restart…');
  const dialog = page.getByRole('dialog');
  await expect(dialog).toContainText('Executions that run go on');
  await dialog.getByRole('button', { name: 'Restart shop-3' }).click();
  await expect(page.getByText('Restart sent.')).toBeVisible();
  await page.getByRole('link', { name: 'Events' }).click();
  // It was online once before.
  await expect(page.getByRole('listitem').filter({ hasText: 'Online' })).toHaveCount(2);
  await expect(page.getByRole('main').getByText('online', { exact: true })).toBeVisible();

  await choose(page, 'Update…');
  await dialog.getByRole('button', { name: 'Update shop-3' }).click();
  await expect(dialog.getByRole('alert')).toContainText('no release is published');
  await page.keyboard.press('Escape');
});

test('a host that was installed again is the agent again, once a person accepts its fingerprint', async ({ page }) => {
  await ask('reinstall_agent');
  await openAgent(page, 'shop-3');
  await expect(page.getByRole('main').getByText('offline', { exact: true })).toBeVisible();
  const ping = page.getByRole('button', { name: 'Ping' });
  await expect(ping).toBeDisabled();
  await expect(ping).toHaveAttribute('title', /offline/);
  const fingerprint = readFileSync(join(folder, 'fingerprint'), 'utf8');
  // The alert names the key pair that a host presented.
  await expect(page.getByRole('alert')).toContainText(fingerprint);
  await expect(page.getByText(fingerprint, { exact: true })).toHaveCount(0);
  await choose(page, 'Accept a new key pair…');
  await page.getByLabel('Fingerprint').fill(fingerprint);
  await page.getByRole('button', { name: 'Accept the key pair of shop-3' }).click();
  await expect(page.getByText('Accepted. The host connects as this agent.')).toBeVisible();
  // The host tries again by itself a minute later; a start is earlier.
  await ask('stop_agent');
  await ask('resume_agent');
  await expect(page.getByRole('main').getByText('online', { exact: true })).toBeVisible();
  await expect(page.getByText(fingerprint, { exact: true })).toBeVisible();
  await expect(page.getByRole('alert')).toHaveCount(0);
});

test('a job in waves is paused, resumed, and starts no more, while what runs continues', async ({ page }) => {
  await page.goto('/run?q=tag:shop&script=count&waves=1&how=1');
  await page.getByRole('button', { name: 'Run on 3 agents' }).click();
  const running = page.getByRole('link', { name: /· running$/ });
  await expect(running).toHaveCount(1);
  await page.getByRole('button', { name: 'Pause', exact: true }).click();
  await expect(page.getByText('paused', { exact: true })).toBeVisible();
  await expect(running).toHaveCount(1);
  await page.getByRole('button', { name: 'Resume', exact: true }).click();
  await expect(page.getByRole('button', { name: 'Pause', exact: true })).toBeVisible();
  await page.getByRole('button', { name: 'Start no more' }).click();
  await expect(page.getByText('Nothing more starts. 1 execution continues until it ends')).toBeVisible();
  await expect(page.getByRole('link', { name: /· cancelled$/ })).toHaveCount(2);
  await expect(running).toHaveCount(1);
  await expect(page.getByRole('button', { name: 'Pause', exact: true })).toHaveCount(0);
  await expect(page.getByRole('button', { name: 'Cancel the job' })).toBeEnabled();
  await ask('finish_count');
  await expect(page.getByRole('link', { name: /· succeeded/ })).toHaveCount(1);
  await expect(page.getByRole('main').getByText('aborted', { exact: true }).first()).toBeVisible();
});

test('fires that were due while the server was away are shown as missed', async ({ page }) => {
  const job = { script: 'hello', target: { expression: 'name:shop-1' } };
  const made = await send(page, 'POST', '/api/schedules', { name: 'every second', rule: { every_ms: 1_000 }, missed: 'skip', overlap: 'skip', job });
  await page.goto(`/schedules/${made.id}`);
  const fires = page.getByRole('region', { name: 'Fires', exact: true });
  await expect(fires.getByRole('row').filter({ hasText: 'fired' }).first()).toBeVisible();
  await ask('kill_server');
  // Two due times pass.
  const back = Date.now() + 2_500;
  await expect.poll(() => Date.now()).toBeGreaterThan(back);
  await ask('start_server');
  await expect(page.getByText('live', { exact: true })).toBeVisible();
  await expect(fires.getByRole('row').filter({ hasText: 'missed' }).first()).toBeVisible();
  await send(page, 'PATCH', `/api/schedules/${made.id}`, { enabled: false });
  await page.goto('/schedules?view=calendar');
  await expect(page.getByRole('link', { name: /missed.*every second/ }).first()).toBeAttached();
  await send(page, 'DELETE', `/api/schedules/${made.id}`);
});

test('a person ends the session of another sign-in, and that browser has to sign in again', async ({ page, newVisitor }) => {
  const other = await newVisitor();
  await signIn(other, EMAIL);
  await expect(other.getByRole('heading', { name: 'Overview' })).toBeVisible();
  const { items } = (await send(other, 'GET', '/api/me/sessions')) as unknown as { items: { is_current: boolean }[] };
  const row = items.findIndex((session) => session.is_current);
  await page.goto('/settings/sessions');
  const rows = page.locator('tbody').getByRole('row');
  await expect(rows).toHaveCount(items.length);
  await expect(rows.filter({ hasText: 'this session' })).toHaveCount(1);
  await rows.nth(row).getByRole('button', { name: 'End' }).click();
  await expect(rows).toHaveCount(items.length - 1);
  await other.goto('/fleet');
  await expect(other.getByRole('button', { name: 'Sign in', exact: true })).toBeVisible();
  await page.reload();
  await expect(rows).toHaveCount(items.length - 1);
});

test('the palette finds jobs, scripts and agents, and the sheet lists the keys', async ({ page }) => {
  const script = await send(page, 'POST', '/api/scripts', { name: 'palette-report', interpreter: 'sh', body: 'true', description: 'Says what it found' });
  const { keyboard } = page;
  await page.goto('/jobs');
  await expect(page.getByRole('heading', { name: 'Jobs' })).toBeVisible();
  const field = page.getByPlaceholder('Find an agent, a job or an action');
  for (const [text, group, seen] of [['palette-rep', 'Library', `/library/${script.id}`], ['count', 'Jobs', /\/jobs\/[0-9a-f-]{36}$/], ['shop-2', 'Fleet', /\/fleet\/[0-9a-f-]{36}$/]] as const) {
    await keyboard.press('Control+k');
    await field.fill(text);
    await expect(page.getByRole('dialog').getByRole('group', { name: group })).toBeVisible();
    await keyboard.press('Enter');
    await expect(page).toHaveURL(seen);
  }
  await keyboard.press('Control+k');
  await field.fill('no such thing');
  await expect(page.getByText('Nothing has this name.')).toBeVisible();
  await keyboard.press('Escape');

  await keyboard.press('?');
  const sheet = page.getByRole('dialog', { name: 'Keyboard shortcuts' });
  await expect(sheet).toContainText('Find agents, jobs and actions');
  expect(await violationsOf(page, '[role=dialog]')).toEqual([]);
  await keyboard.press('Escape');
  await expect(sheet).toHaveCount(0);
  for (const [keys, path] of [['gf', '/fleet'], ['gs', '/schedules'], ['gh', '/history'], ['gl', '/library'], ['ga', '/approvals'], ['gj', '/jobs'], ['go', '/'], ['c', '/run']] as const) {
    for (const key of keys) await keyboard.press(key);
    await expect(page).toHaveURL((url) => url.pathname === path);
  }
  await keyboard.press('g');
  await keyboard.press('f');
  await expect(page.getByRole('searchbox')).toBeVisible();
  await keyboard.press('/');
  await expect(page.getByRole('searchbox')).toBeFocused();
  // What is typed in a field is no shortcut.
  await keyboard.type('c?');
  await expect(page).toHaveURL((url) => url.pathname === '/fleet');
  await send(page, 'DELETE', `/api/scripts/${script.id}`);
});

test('every component is shown in both themes without a violation', async ({ page }) => {
  await page.goto('/ui');
  await expect(page.getByRole('heading', { name: 'Components', level: 1 })).toBeVisible();
  for (const theme of ['light', 'dark']) await expect(page.getByRole('region', { name: theme, exact: true })).toContainText('timed out');
  expect(await violationsOf(page)).toEqual([]);
});
