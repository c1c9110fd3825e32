// Several steps in one run, services that hosts keep running, and certificates of clients. It goes on with the server of
// the other specs, and leaves it as it was.
import { expect } from '@playwright/test';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { serviceOf } from './archive';
import { ask, checkScreen, checkScreens, chooseLanguage, folder, send, test, TWO_LOOKS, violationsOf } from './story';

test.describe.configure({ mode: 'serial' });

const screens: [name: string, path: string][] = [['services', '/library/services'], ['service-new', '/library/assignments/new?kind=service&q=tag:web'], ['certificates-none', '/settings/certificates']];
const here = (url: string): string => new URL(url).pathname + new URL(url).search;
const EVIL = '<b>evil</b> \u202e';

test('steps are typed with the keyboard alone, and run one after the other', async ({ page }) => {
  const { keyboard } = page;
  await page.goto('/run?q=tag:shop');
  await page.getByRole('group', { name: 'What', exact: true }).getByRole('button', { name: 'Steps' }).focus();
  await keyboard.press('Enter');
  await expect(page.getByText('Choose what step 1 runs.')).toBeVisible();
  const step = (number: number) => page.getByRole('group', { name: `Step ${number}`, exact: true });
  await step(1).getByLabel('Script', { exact: true }).focus();
  await keyboard.type('check');
  await keyboard.press('Tab');
  await step(1).getByLabel('If it does not succeed').selectOption('continue');
  await page.getByRole('button', { name: 'Add a step' }).focus();
  await keyboard.press('Enter');
  await expect(step(2).getByLabel('Script', { exact: true })).toBeFocused();
  await keyboard.type('deploy');
  await keyboard.press('Tab');
  await keyboard.type('<i>Release</i>');
  await keyboard.press('Tab');
  await keyboard.type('VERSION=7');
  await step(2).getByRole('button', { name: 'Move step 2 up' }).focus();
  await keyboard.press('Enter');
  await expect(step(1).getByLabel('Script', { exact: true })).toHaveValue('deploy');
  await expect(page.getByText('Runs 2 steps, one after the other, on 3 agents: <i>Release</i> → check.')).toBeVisible();
  // A secret must go to a step, and a step gets only what has a value.
  await step(1).getByLabel('Secrets that it gets').fill('TOKEN');
  await expect(page.getByText('A step names secret parameters that have no value: TOKEN.')).toBeVisible();
  await step(1).getByLabel('Secrets that it gets').fill('');
  // The address follows what is typed a moment later.
  await expect.poll(() => new URL(page.url()).searchParams.get('steps')).toMatch(/^(?!.*TOKEN).*deploy.*check.*continue/);
  await page.reload();
  await expect(step(2).getByLabel('If it does not succeed')).toHaveValue('continue');
  screens.push(['run-steps', here(page.url())]);
  await page.getByRole('button', { name: 'Run on 3 agents' }).click();
  await expect(page.getByText('1 of 3 executions did not succeed.')).toBeVisible();
  screens.push(['job-steps', here(page.url())]);
});

test('each step has its results over all agents, and its own part of the output', async ({ page }) => {
  const steps = page.getByRole('region', { name: 'Steps' }).getByRole('listitem');
  await expect(steps).toHaveCount(2);
  await expect(steps.nth(0)).toContainText('<i>Release</i>');
  await expect(steps.nth(0)).toContainText('3 succeeded');
  await expect(steps.nth(1)).toContainText('2 succeeded');
  await expect(steps.nth(1)).toContainText('1 failed');
  await expect(page.getByRole('main').locator('i')).toHaveCount(0);
  await steps.nth(1).getByRole('link', { name: 'shop-2' }).click();
  await expect(page.getByRole('heading', { name: 'Output of step 2' })).toBeVisible();
  screens.push(['execution-step', here(page.url())]);
  const output = page.getByRole('log');
  await expect(output).toContainText('disk is full');
  await expect(output).not.toContainText('released 7');
  await expect(steps.nth(1)).toContainText('exit code 3');
  await expect(steps.nth(1)).toHaveAttribute('aria-current', 'step');
  await steps.nth(0).getByRole('link', { name: 'Output of step 1' }).click();
  await expect(output).toContainText('released 7');
  await expect(output).not.toContainText('checking');
  await page.getByRole('link', { name: 'Show the whole output' }).click();
  await expect(output).toContainText('disk is full');
  await expect(output).toContainText('released 7');
});

test('what ran in steps is scheduled in steps, and a form without changes keeps them', async ({ page }) => {
  await page.getByRole('link', { name: 'Run again…' }).click();
  await expect(page.getByRole('group', { name: 'Step 1', exact: true }).getByLabel('Parameters')).toHaveValue('VERSION=7');
  await page.locator('summary').click();
  await page.getByLabel('Agents that are offline').selectOption('skip');
  await page.getByRole('link', { name: 'Schedule it…' }).click();
  await page.getByLabel('Name', { exact: true }).fill('in steps');
  await expect(page.getByLabel('Agents that are offline')).toHaveValue('skip');
  screens.push(['schedule-steps', here(page.url())]);
  await page.getByRole('button', { name: 'Create the schedule' }).click();
  await expect(page.getByRole('heading', { name: 'in steps' })).toBeVisible();
  await expect(page.getByRole('region', { name: 'What it runs' }).getByRole('listitem')).toHaveText([/Release.*deploy/, 'check']);
  await expect(page.getByText('are left out')).toBeVisible();
  await page.getByRole('link', { name: 'Change' }).click();
  await page.getByLabel('Spread starts over minutes').fill('5');
  await page.getByRole('button', { name: 'Save' }).click();
  await expect(page.getByRole('region', { name: 'What it runs' }).getByRole('listitem')).toHaveText([/Release.*deploy/, 'check']);
  await page.getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await expect(page.getByRole('heading', { name: 'Schedules' })).toBeVisible();
});

test('agents that are offline stop a run, or are left out of it', async ({ page }) => {
  await ask('stop_agent');
  await page.goto('/run?q=tag:shop&script=check&offline=fail');
  await expect(page.getByText('The server refuses all of it, because 1 agent is offline.')).toBeVisible();
  await expect(page.getByRole('button', { name: 'Run on 3 agents' })).toBeDisabled();
  await page.getByLabel('Agents that are offline').selectOption('are left out');
  await expect(page.getByText('1 offline agent is left out.')).toBeVisible();
  await page.getByRole('button', { name: 'Run on 3 agents' }).click();
  await expect(page.getByRole('link', { name: /shop-3 · skipped/ })).toBeVisible();
  await expect(page.getByText('1 of 3 executions did not succeed.')).toBeVisible();
  await ask('resume_agent');
});

test('the step that runs is shown while it runs', async ({ page }) => {
  // The script of another spec went on long ago; this one waits again.
  for (const asked of ['finish_count', 'finish_count.done']) rmSync(join(folder, asked), { force: true });
  const job = await send(page, 'POST', '/api/jobs', { target: { expression: 'name:shop-1' }, steps: [{ script: 'check' }, { name: 'Counting', script: 'count' }, { script: 'check' }] });
  await expect.poll(async () => (await send(page, 'GET', `/api/jobs/${job.id}/executions`)).items.length).toBe(1);
  const [execution] = (await send(page, 'GET', `/api/jobs/${job.id}/executions`)).items;
  await page.goto(`/executions/${execution!.id}`);
  const steps = page.getByRole('region', { name: 'Steps' }).getByRole('listitem');
  await expect(steps).toHaveText([/succeeded.*check/, /running.*Counting/, /waits for its turn.*check/]);
  await expect(page.getByText('now step 2 of 3 (Counting)')).toBeVisible();
  expect(await violationsOf(page)).toEqual([]);
  await chooseLanguage(page, 'de');
  await expect(page.getByRole('region', { name: 'Schritte' }).getByRole('listitem').nth(2)).toContainText('noch nicht dran');
  await chooseLanguage(page, 'en');
  await page.goto(`/jobs/${job.id}`);
  await expect(steps.nth(1)).toContainText('1 running');
  await page.goBack();
  await ask('finish_count');
  await expect(steps).toHaveText([/succeeded.*check/, /succeeded.*Counting/, /succeeded.*check/]);
});

test('a service is assigned, and its run is restarted, stopped and started', async ({ page }) => {
  await ask('allow_library');
  await page.goto('/library/services');
  await expect(page.getByText('No services yet')).toBeVisible();
  for (const archive of [serviceOf('steady'), serviceOf('flapping', true)]) {
    const status = await page.evaluate((bytes) => fetch('/api/packages', { method: 'POST', headers: { 'content-type': 'application/octet-stream' }, body: new Uint8Array(bytes) }).then((answer) => answer.status), [...archive]);
    expect(status).toBe(201);
  }
  await page.getByRole('main').getByRole('link', { name: 'New service' }).first().focus();
  await page.keyboard.press('Enter');
  await page.getByLabel('Name').fill('edge');
  await page.getByLabel('Package or script').selectOption('package:steady@1.0.0');
  await page.getByLabel('Target').fill('tag:web & tag:eu');
  await expect(page.getByText('and keep it running.')).toBeVisible();
  await page.getByRole('button', { name: 'Assign', exact: true }).click();
  await expect(page.getByRole('heading', { name: 'edge', level: 1 })).toBeVisible();
  screens.push(['service', here(page.url())]);
  const row = page.getByRole('table', { name: 'Hosts' }).getByRole('row').nth(1);
  await expect(row).toContainText('running');
  await expect(row).toContainText('healthy');
  const first = await row.getByRole('link', { name: /^Output/ }).getAttribute('href');
  for (const [name, question, state] of [['Restart', 'Restart the service?', 'running'], ['Stop', 'Stop the service?', 'stopped'], ['Start', 'Start the service?', 'running']] as const) {
    await page.getByRole('button', { name: `${name}…`, exact: true }).click();
    const dialog = page.getByRole('dialog', { name: question });
    await dialog.getByRole('button', { name: `${name} on 1 agent` }).click();
    await expect(page.getByText(`${name} sent to 1 agent.`)).toBeVisible();
    if (name === 'Restart') await expect(row.getByRole('link', { name: /^Output/ })).not.toHaveAttribute('href', first!);
    await expect(row).toContainText(state);
  }
  await row.getByRole('link', { name: /^Output/ }).click();
  await expect(page.getByRole('log')).toContainText('<b>ready</b>');
  await expect(page.getByRole('log').locator('b')).toHaveCount(0);
});

test('a service that fails says when it starts again, and its host has the buttons too', async ({ page }) => {
  await send(page, 'POST', '/api/assignments', { name: 'flapping', script: 'package:flapping@1.0.0', target: { expression: 'tag:web & tag:eu' } });
  await page.goto('/library/services');
  await expect(page.getByRole('row').filter({ hasText: 'flapping' })).toContainText('restarts soon');
  await page.getByRole('row').filter({ hasText: 'edge' }).getByRole('link', { name: 'running' }).click();
  await page.getByRole('table', { name: 'Hosts' }).getByRole('row').nth(1).getByRole('link').first().click();
  screens.push(['agent-services', here(page.url())]);
  const service = (name: string) => page.getByRole('main').getByRole('listitem').filter({ hasText: name });
  await expect(service('flapping')).toContainText(/starts again .*[1-9]\d* restart/);
  await expect(service('flapping')).toContainText('exit_code');
  await service('edge').getByRole('button', { name: 'Stop edge' }).click();
  await expect(service('edge')).toContainText('stopped');
  await service('edge').getByRole('button', { name: 'Start edge' }).click();
  await expect(service('edge')).toContainText('running');
  await page.goto('/library/packages/steady');
  await expect(page.getByText('service: hosts that it is assigned to keep it running')).toBeVisible();
  await page.getByRole('region', { name: 'Assignments of this version' }).getByRole('link', { name: 'edge' }).click();
  await expect(page.getByRole('heading', { name: 'edge', level: 1 })).toBeVisible();
});

test('every state of a service has a word and a shape, and what hosts wrote is text', async ({ page }) => {
  const states = ['backoff', 'waiting', 'stopping', 'running', 'stopped', 'ended', EVIL];
  await page.route('**/api/assignments/*/agents?*', async (route) => {
    const made = states.map((state, i) => ({ agent_id: `01a20000-0000-7000-8000-00000000000${i}`, agent_name: `host-${i} ${EVIL}`, is_connected: i !== 3, state: 'installed', skipped_count: 0, error: state === 'waiting' ? EVIL : null, error_code: null, reported_at: new Date().toISOString(), service: { state, health: state === 'running' ? 'failing' : EVIL, restart_count: i, restart_at: new Date(Date.now() + 60_000).toISOString(), started_at: new Date().toISOString(), last_outcome: state === 'backoff' ? 'lost' : EVIL, last_error_code: EVIL, limits: 'unavailable', run_id: null } }));
    await route.fulfill({ json: { items: made, next_cursor: null } });
  });
  await page.reload();
  const rows = page.getByRole('table', { name: 'Hosts' }).getByRole('row');
  await expect(rows).toHaveCount(8);
  await expect(rows.nth(1)).toContainText('starts again in');
  await expect(rows.nth(1)).toContainText('<b>evil</b> \\u{202e}');
  await expect(rows.filter({ hasText: 'host-3' })).toContainText('offline');
  await expect(rows.filter({ hasText: 'host-3' })).toContainText('failing');
  await expect(rows.filter({ hasText: 'host-6' })).toContainText('not reported');
  await expect(page.getByRole('main').locator('b')).toHaveCount(0);
  await checkScreen(page, 'service-states-1440');
  await page.setViewportSize({ width: 390, height: 844 });
  await checkScreen(page, 'service-states-390');
  await page.setViewportSize({ width: 1440, height: 900 });
  await page.unrouteAll({ behavior: 'wait' });
});

test('certificates are listed by state, and one is revoked after a question', async ({ page }) => {
  // This server does not end TLS, so the answers of one that does take the place of its own.
  await page.goto('/settings/certificates');
  await expect(page.getByText('This server does not end TLS')).toBeVisible();
  await expect(page.getByText('No certificates yet')).toBeVisible();
  const states = ['valid', 'due', 'expiring', 'expired', 'revoked'];
  const day = (days: number): string => new Date(Date.now() + days * 86_400_000).toISOString();
  let revoked = '';
  await page.route('**/api/certificates/status', (route) => route.fulfill({ json: { required_of: 'agents', is_issuing: true, valid_count: 1, due_count: 1, expiring_count: 1, expired_count: 1, revoked_count: 1 } }));
  await page.route('**/api/certificates?*', (route) => route.fulfill({ json: { items: states.map((state, i) => ({ id: `01a20000-0000-7000-8000-00000000000${i}`, holder: 'agent', holder_id: `01a20000-0000-7000-9000-00000000000${i}`, state, issued_at: day(-20), renew_at: day(-1), expires_at: day(9), revoked_at: state === 'revoked' ? day(-2) : null })), next_cursor: null } }));
  await page.route('**/api/certificates/0*', (route) => {
    revoked = `${route.request().method()} ${new URL(route.request().url()).pathname}`;
    return route.fulfill({ status: 204 });
  });
  await page.goto('/settings/agent-keys');
  await page.getByRole('link', { name: '2 certificates were not renewed' }).click();
  await expect(page.getByText('Agents must show a valid certificate.')).toBeVisible();
  const rows = page.getByRole('row');
  for (const [i, word] of ['valid', 'due', 'expires soon', 'expired', 'revoked'].entries()) await expect(rows.nth(i + 1)).toContainText(word);
  await checkScreen(page, 'certificates-1440');
  await rows.nth(1).getByRole('button', { name: /^Revoke/ }).click();
  const dialog = page.getByRole('dialog', { name: 'Revoke this certificate?' });
  await expect(dialog).toContainText('its key pair opens no session again');
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  expect(revoked).toBe('');
  await rows.nth(1).getByRole('button', { name: /^Revoke/ }).click();
  await dialog.getByRole('button', { name: 'Revoke the certificate' }).click();
  await expect(dialog).toHaveCount(0);
  expect(revoked).toBe('DELETE /api/certificates/01a20000-0000-7000-8000-000000000000');
  await page.unrouteAll({ behavior: 'wait' });
});

test('none of these screens has a violation of accessibility or scrolls sideways, in both themes and on a phone', async ({ page }) => {
  test.setTimeout(240_000);
  await checkScreens(page, screens, TWO_LOOKS);
});

test('a service is deleted, and its host ends it', async ({ page }) => {
  const runs = new Set((await send(page, 'GET', '/api/executions?trigger=service&state=running')).items.map(({ id }) => id));
  await page.goto(screens.find(([name]) => name === 'service')![1]);
  await page.getByRole('button', { name: 'Delete' }).click();
  const dialog = page.getByRole('dialog', { name: 'Delete this service?' });
  await expect(dialog).toContainText('edge');
  await dialog.getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('link', { name: 'flapping', exact: true }).click();
  await page.getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await expect(page.getByText('No services yet')).toBeVisible();
  expect(runs.size).toBeGreaterThan(0);
  await expect.poll(async () => (await send(page, 'GET', '/api/executions?trigger=service&state=running')).items.length, { timeout: 30_000 }).toBe(0);
  const { items } = await send(page, 'GET', '/api/packages');
  for (const { id, name } of items) if (name === 'steady' || name === 'flapping') await send(page, 'DELETE', `/api/packages/${id}`);
});
