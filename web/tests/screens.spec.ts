// What a tenant keeps on the server: scripts, integrations, hooks, calendars, its plan; and the second factor of a
// person. It continues with the server of the other specs.
import { expect } from '@playwright/test';
import { join } from 'node:path';
import { ask, checkScreens, codeAt, confirmed, EMAIL, ids, send, signIn, test, THREE_LOOKS, violationsOf } from './story';

const paths: [name: string, path: string][] = [];
test.describe.configure({ mode: 'serial' });

test('a script is written, saved again, compared, rolled back and opened in the run dialog', async ({ page }) => {
  await page.goto('/library');
  await page.getByRole('main').getByRole('link', { name: 'New script' }).first().click();
  const [name, folder] = ['disk-report', 'ops/disks'];
  await page.getByLabel('Name', { exact: true }).fill(name);
  await page.getByLabel('Folder').fill(folder);
  await page.getByLabel('Tags', { exact: true }).fill('disk report');
  await page.getByLabel('Description').fill('How full is <b>it</b>?');
  const editor = page.getByRole('textbox', { name: 'Text' });
  await editor.click();
  await page.keyboard.press('Control+a');
  // No shortcut of the page answers to what is typed here.
  await page.keyboard.type('df -h # c?/\necho first\n');
  await expect(page).toHaveURL('/library/new');
  await page.getByRole('button', { name: 'Add a parameter' }).click();
  await page.getByRole('group', { name: 'Parameter 1' }).getByLabel('Name').fill('THRESHOLD');
  await page.getByLabel('Type').selectOption('whole number');
  await page.getByLabel('Default').fill('90');
  await page.getByRole('button', { name: 'Create the script' }).click();
  await expect(page.getByRole('heading', { name, level: 1 })).toBeVisible();
  await expect(page.getByRole('main').locator('b')).toHaveCount(0);
  await expect(page.getByText('How full is <b>it</b>')).toBeVisible();
  await expect(page.getByText('version 1 is current')).toBeVisible();
  const address = page.url();
  paths.push(['script', new URL(address).pathname]);

  await page.getByRole('link', { name: 'Edit' }).click();
  await page.getByLabel('What changed').fill('says second');
  await editor.click();
  await page.keyboard.press('Control+End');
  await page.keyboard.type('echo second\n');
  await page.keyboard.press('Control+s');
  await expect(page).toHaveURL(address);
  await expect(page.getByText('version 2 is current')).toBeVisible();
  await expect(page.getByText('says second')).toBeVisible();

  await page.getByRole('button', { name: 'Compare version 1' }).click();
  await expect(page).toHaveURL(/from=1&to=2/);
  const diff = page.getByRole('region', { name: 'Text', exact: true }).last();
  await expect(diff).toContainText('+echo second');
  await expect(diff).not.toContainText('-echo first');
  paths.push(['script-diff', new URL(page.url()).pathname + new URL(page.url()).search]);
  await page.getByRole('button', { name: 'Make version 1 current' }).click();
  await expect(page.getByText('version 1 is current')).toBeVisible();
  await page.getByRole('button', { name: 'Show the text' }).click();
  await expect(page.getByRole('textbox', { name: 'Text' })).not.toContainText('second');
  await page.getByRole('button', { name: 'Version 2', exact: true }).click();
  await page.getByRole('link', { name: 'Run version 2…' }).click();
  await expect(page.locator('select#script')).toHaveValue(`library:${name}@2`);
  await expect(page.getByLabel('THRESHOLD')).toHaveAttribute('placeholder', '90');
  await expect(page.getByText(`Runs library:${name}@2 on`)).toBeVisible();

  await page.goto('/library?q=nothing-like-it');
  await expect(page.getByText('No script matches')).toBeVisible();
  await page.goto(`/library?folder=${folder}&tag=disk`);
  await expect(page.getByRole('link', { name, exact: true })).toBeVisible();
});

test('a save after another person’s is refused, and nothing is lost', async ({ page, context }) => {
  await page.goto('/library');
  await page.getByRole('link', { name: 'disk-report', exact: true }).click();
  await page.getByRole('link', { name: 'Edit' }).click();
  await expect(page.getByRole('textbox', { name: 'Text' })).toContainText('echo first');
  const other = await context.newPage();
  await other.goto(page.url());
  for (const [tab, text] of [[other, 'theirs'], [page, 'mine']] as const) {
    await tab.getByRole('textbox', { name: 'Text' }).click();
    await tab.keyboard.press('Control+End');
    await tab.keyboard.type(`echo ${text}`);
    await tab.getByRole('button', { name: 'Save version 3' }).click();
    if (tab === other) await expect(other.getByText('version 3 is current')).toBeVisible();
  }
  await expect(page.getByRole('alert')).toBeVisible();
  await expect(page.getByRole('textbox', { name: 'Text' })).toContainText('echo mine');
  paths.push(['script-edit', new URL(page.url()).pathname]);
  await other.close();
});

test('trigger and main are written side by side, and a draft runs on one host before it becomes the current version', async ({ page }) => {
  await ask('allow_files');
  const { name: host } = (await send(page, 'GET', '/api/agents')).items.find(({ name }) => !name.startsWith('shop-'))!;
  await page.goto('/library/new');
  await page.getByLabel('Name', { exact: true }).fill('reboot-watch');
  await expect(page.getByRole('button', { name: 'Try on one host…' })).toBeDisabled();
  await page.getByLabel('It has a trigger').check();
  await page.getByRole('button', { name: 'Insert both parts' }).click();
  const [trigger, main] = [page.getByRole('textbox', { name: 'Trigger' }), page.getByRole('textbox', { name: 'Main' })];
  await expect(trigger).toContainText('MUSTER_DECISION_FILE');
  await expect(main).toContainText('echo main');
  await expect(trigger).not.toContainText('echo main');
  await page.getByRole('button', { name: 'Create the script' }).click();
  await expect(page.getByRole('heading', { name: 'reboot-watch', level: 1 })).toBeVisible();
  await expect(trigger).toBeVisible();
  await page.getByRole('button', { name: 'One text' }).click();
  await expect(page.getByRole('textbox', { name: 'Text' })).toContainText('echo main');
  paths.push(['script-parts', new URL(page.url()).pathname]);

  await page.getByRole('link', { name: 'Edit' }).click();
  await main.click();
  await page.keyboard.press('Control+End');
  await page.keyboard.type('echo "drafted $((40 + 2))"\n');
  await page.getByRole('button', { name: 'Try on one host…' }).click();
  const draft = page.getByRole('region', { name: 'Try it on one host' });
  await expect(draft.getByText('Choose an agent.')).toBeVisible();
  await draft.getByLabel('Agent').fill(host);
  await draft.getByRole('button', { name: 'Store version 2 and run it' }).click();
  await expect(draft.getByRole('log')).toContainText('drafted 42');
  await expect(draft.getByText('exit code 0')).toBeVisible();
  expect(await violationsOf(page)).toEqual([]);
  // The same text runs again without another version.
  await draft.getByRole('button', { name: 'Run version 2' }).click();
  await expect(draft.getByText('exit code 0')).toBeVisible();
  const id = paths.at(-1)![1].split('/').at(-1)!;
  expect(await send(page, 'GET', `/api/scripts/${id}`)).toMatchObject({ current_version: 1, latest_version: 2 });
  paths.push(['script-parts-edit', new URL(page.url()).pathname]);
  await page.getByRole('button', { name: 'Make version 2 current' }).click();
  await expect(page.getByText('version 2 is current')).toBeVisible();
  await expect(main).toContainText('drafted');
  expect(await send(page, 'GET', `/api/scripts/${id}`)).toMatchObject({ current_version: 2, latest_version: 2, has_trigger: true });
});

test('an integration is added, tested, disabled, and its address is never shown again', async ({ page }) => {
  await page.goto('/settings/integrations/new');
  await page.getByLabel('Name').fill('on-call');
  await page.getByLabel('Kind').selectOption('Slack');
  await page.getByLabel('Address').fill('https://hooks.invalid/services/secret-part');
  await page.getByLabel('An agent is back').check();
  await page.getByRole('textbox', { name: 'Text' }).fill('{{ title }}');
  await page.getByRole('button', { name: 'Create the integration' }).click();
  await confirmed(page, page.getByRole('heading', { name: 'on-call' }));
  await expect(page.getByText('hooks.invalid')).toBeVisible();
  await expect(page.getByText('secret-part')).toHaveCount(0);
  paths.push(['integration', new URL(page.url()).pathname]);
  await page.getByRole('button', { name: 'Send a test' }).click();
  await expect(page.getByText('The test did not arrive.')).toBeVisible({ timeout: 40_000 });
  await page.getByRole('button', { name: 'Disable' }).click();
  await expect(page.getByText('disabled')).toBeVisible();
  await page.getByRole('link', { name: 'Change' }).click();
  await expect(page.getByLabel('Address')).toHaveValue('');
  await page.getByLabel('Name').fill('night shift');
  await page.getByRole('button', { name: 'Save' }).click();
  await confirmed(page, page.getByRole('heading', { name: 'night shift' }));
});

test('messages that were given up are sent again from the log', async ({ page }) => {
  const id = '01a20000-0000-7000-8000-000000000001';
  const item = { id, event: 'job.failed', state: 'failed', attempt_count: 9, repeat_count: 3, created_at: new Date().toISOString(), give_up_at: new Date().toISOString(), last_attempt: { at: new Date().toISOString(), status: 503, response: '<b>busy</b>', took_ms: 12 } };
  let sent = '';
  await page.route('**/deliveries?*', (route) => route.fulfill({ json: { items: [sent ? { ...item, state: 'pending' } : item], next_cursor: null } }));
  await page.route('**/resend', (route) => {
    sent = route.request().url();
    return route.fulfill({ status: 202, json: item });
  });
  await page.goto('/settings/integrations');
  await page.getByRole('link', { name: 'night shift' }).click();
  await expect(page.getByText('HTTP 503 · <b>busy</b>')).toBeVisible();
  await expect(page.getByText('reports 3 events')).toBeVisible();
  await page.getByRole('button', { name: 'Send again' }).click();
  await expect(page.getByRole('button', { name: 'Send again' })).toHaveCount(0);
  expect(sent).toContain(`/deliveries/${id}/resend`);
  await page.unrouteAll();
});

test('a hook shows its secret once, and a dry run shows the parameters', async ({ page }) => {
  await page.goto('/settings/hooks/new');
  await page.getByLabel('Name').fill('deploy');
  await page.getByLabel('Proof').selectOption('GitHub');
  await page.getByLabel('Script').fill('hello');
  await page.getByLabel('Target').fill('tag:shop');
  await page.getByLabel('Fields of the body').fill('REF=/after');
  await page.getByLabel('Only if').fill('/ref=refs/heads/main');
  await page.getByRole('button', { name: 'Create the hook' }).click();
  const secret = page.getByText(/^whsec_/);
  await confirmed(page, secret);
  paths.push(['hook', new URL(page.url()).pathname]);
  await page.getByLabel('Body as JSON').fill('{"ref": "refs/heads/other"}');
  await page.getByRole('button', { name: 'Only show' }).click();
  await expect(page.getByText('It would be ignored:')).toBeVisible();
  await page.getByLabel('Body as JSON').fill('{"ref": "refs/heads/main", "after": "abc"}');
  await page.getByRole('button', { name: 'Only show' }).click();
  await expect(page.getByText('REF=abc')).toBeVisible();
  await page.reload();
  await expect(page.getByRole('heading', { name: 'deploy' })).toBeVisible();
  await expect(secret).toHaveCount(0);
});

test('a freeze holds a schedule back, and a schedule is snoozed', async ({ page }) => {
  await page.goto('/schedules/new?q=tag:shop&script=hello');
  await page.getByLabel('Name').fill('hourly');
  await page.getByLabel('Cron').fill('0 * * * *');
  await page.getByRole('button', { name: 'Create the schedule' }).click();
  await expect(page.getByRole('heading', { name: 'hourly' })).toBeVisible();
  await page.getByRole('button', { name: 'Snooze' }).click();
  await page.getByRole('dialog').getByRole('button', { name: '1 week' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Snooze the schedule' }).click();
  await expect(page.getByText('snoozed until')).toBeVisible();
  await page.goto('/schedules/calendars');
  await expect(page.getByRole('region', { name: 'Snoozed schedules' })).toContainText('hourly');
  await page.getByRole('link', { name: 'hourly' }).click();
  await page.getByRole('button', { name: 'End the snooze' }).click();
  await expect(page.getByText('snoozed until')).toHaveCount(0);

  await page.goto('/schedules/calendars/new');
  await page.getByLabel('Name').fill('year-end');
  await page.getByLabel('Begins').fill('2020-01-01T00:00');
  await page.getByLabel('Ends', { exact: true }).fill('2099-01-01T00:00');
  await page.getByLabel('Note').fill('sale');
  await page.getByLabel('some schedules').check();
  await page.getByLabel('hourly').check();
  await page.getByRole('button', { name: 'Create the calendar' }).click();
  await expect(page.getByText('Now: nothing starts.')).toBeVisible();
  await expect(page.getByText(/^\d+ of \d+ due times\.$/)).toBeVisible();
  await page.getByRole('link', { name: 'Change year-end' }).click();
  await expect(page.getByLabel('hourly')).toBeChecked();
  paths.push(['calendar-form', new URL(page.url()).pathname]);
});

test('the ladder is changed, and the plan shows what is used', async ({ page }) => {
  await page.goto('/approvals/ladder');
  await page.getByRole('button', { name: 'Change the ladder' }).click();
  // The ladder of a new tenant has steps: these are ours.
  const remove = page.getByRole('button', { name: /^Remove step/ });
  while ((await remove.count()) > 0) await remove.first().click();
  await page.getByRole('button', { name: 'Add a step' }).click();
  await page.getByLabel('From agents').fill('50');
  await page.getByLabel('Only agents with the tag').fill('critical');
  await page.getByRole('button', { name: 'Save' }).click();
  await confirmed(page, page.getByText('From 50 agents with the tag critical, a request needs an approval by another person.'));
  await page.goto('/settings/plan');
  await expect(page.getByRole('heading', { name: /^Plan / })).toBeVisible();
  await page.getByLabel('Name').fill('Analytical Engines');
  await page.getByRole('button', { name: 'Rename' }).click();
  await expect(page.getByText('Renamed.')).toBeVisible();
  await expect(page.getByRole('link', { name: 'Download the export' })).toBeVisible();
  await page.getByRole('button', { name: 'Delete the tenant' }).click();
  const deletion = page.getByRole('dialog').getByRole('button', { name: 'Delete the tenant' });
  await expect(deletion).toBeDisabled();
  await page.getByRole('dialog').getByLabel('Type Analytical Engines').fill('Analytical Engines');
  await expect(deletion).toBeEnabled();
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
});

test('an auditor sees all of it and can change none of it', async ({ newVisitor }) => {
  const auditor = await newVisitor();
  await signIn(auditor, ids().auditor_email!);
  await expect(auditor.getByRole('heading', { name: 'Overview' })).toBeVisible();
  const change = /^(New |Edit|Run|Make|Change|Delete|Disable|Enable|Send|Add|Rename|Download|Only show|Start)/;
  for (const [path, seen] of [['/library', 'disk-report'], [paths.find(([name]) => name === 'script')![1], 'Versions'], ['/settings/integrations', 'night shift'], [paths.find(([name]) => name === 'hook')![1], 'What it does'], ['/schedules/calendars', 'year-end'], ['/approvals/ladder', 'From 50 agents'], ['/settings/plan', 'Plan Pro']] as const) {
    await auditor.goto(path);
    await expect(auditor.getByRole('main').getByText(seen).first(), path).toBeVisible();
    await expect(auditor.getByRole('status').filter({ hasText: 'Loading' })).toHaveCount(0);
    await expect(auditor.getByRole('main').getByRole('button', { name: change }), path).toHaveCount(0);
    await expect(auditor.getByRole('main').getByRole('link', { name: change }), path).toHaveCount(0);
  }
  for (const [path, why] of [['/library/new', 'not change scripts'], ['/settings/integrations/new', 'not change integrations'], ['/settings/hooks/new', 'not change hooks'], ['/schedules/calendars/new', 'not change calendars']] as const) {
    await auditor.goto(path);
    await expect(auditor.getByText(why)).toBeVisible();
  }
});

test('a second factor is set up, asked for at the sign-in, and disabled', async ({ page, newVisitor }) => {
  await page.goto('/settings/account');
  await page.getByRole('button', { name: 'Set up the second factor' }).click();
  await confirmed(page, page.getByRole('img', { name: 'QR code for the app' }));
  const secret = await page.getByRole('region', { name: 'Second factor' }).locator('code').innerText();
  if (process.env.MUSTER_SCREENSHOTS) await page.screenshot({ path: join(process.env.MUSTER_SCREENSHOTS, 'totp.png'), fullPage: true });
  const step = Math.floor(Date.now() / 30_000);
  await page.getByLabel('Code that the app shows').fill('000000');
  await page.getByRole('button', { name: 'Enable' }).click();
  await expect(page.getByText('The code is wrong.')).toBeVisible();
  await page.getByLabel('Code that the app shows').fill(codeAt(secret, step));
  await page.getByRole('button', { name: 'Enable' }).click();
  const codes = page.getByRole('list', { name: 'Recovery codes' }).getByRole('listitem');
  await expect(codes).toHaveCount(10);
  if (process.env.MUSTER_SCREENSHOTS) await page.screenshot({ path: join(process.env.MUSTER_SCREENSHOTS, 'recovery-codes.png'), fullPage: true });
  const recovery = await codes.first().innerText();
  const spare = await codes.nth(1).innerText();
  await page.getByRole('button', { name: 'I keep them' }).click();
  await expect(page.getByText('10 recovery codes are left.')).toBeVisible();

  const visitor = await newVisitor();
  await signIn(visitor, EMAIL);
  await visitor.getByLabel('Code').fill('000000');
  await visitor.getByRole('button', { name: 'Sign in', exact: true }).click();
  await expect(visitor.getByRole('alert')).toHaveText('The code is wrong, or was used before.');
  expect(await violationsOf(visitor)).toEqual([]);
  await visitor.getByLabel('Code').fill(recovery);
  await visitor.getByRole('button', { name: 'Sign in', exact: true }).click();
  await expect(visitor.getByRole('heading', { name: 'Overview' })).toBeVisible();

  await page.reload();
  await expect(page.getByText('9 recovery codes are left.')).toBeVisible();
  await page.getByRole('button', { name: 'Disable' }).click();
  await page.getByLabel('Code that the app shows, or a recovery code').fill(spare);
  await page.getByRole('dialog').getByRole('button', { name: 'Disable' }).click();
  await confirmed(page, page.getByRole('button', { name: 'Set up the second factor' }));
});

test('the sign-in page offers the providers that the server lists', async ({ newVisitor }) => {
  const visitor = await newVisitor();
  await visitor.route('**/api/auth/oidc/providers', (route) => route.fulfill({ json: { items: [{ name: 'corp', title: 'Corp <b>', start_path: '/api/auth/oidc/corp/start' }] } }));
  await visitor.goto('/library?tag=disk');
  await expect(visitor.getByRole('link', { name: 'Sign in with Corp <b>' })).toHaveAttribute('href', '/api/auth/oidc/corp/start?return_to=%2Flibrary%3Ftag%3Ddisk');
});

test('none of these screens has a violation of accessibility or scrolls sideways, in both themes and three widths', async ({ page }) => {
  test.setTimeout(420_000);
  const screens: [string, string][] = [
    ['library', '/library'], ['script-new', '/library/new'], ['integrations', '/settings/integrations'], ['integration-new', '/settings/integrations/new'], ['hooks', '/settings/hooks'], ['hook-new', '/settings/hooks/new'],
    ['calendars', '/schedules/calendars'], ['calendar-new', '/schedules/calendars/new'], ['ladder', '/approvals/ladder'], ['plan', '/settings/plan'], ['security', '/settings/account'], ...paths,
  ];
  await checkScreens(page, screens, THREE_LOOKS);
});
