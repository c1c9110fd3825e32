// What people set up: schedules, rules, groups, keys, tags, accounts. It goes on with the server of
// dashboard.spec.ts.
import { expect, type Page } from '@playwright/test';
import { ask, chooseLanguage, ids, lastSecret, PASSWORD, send, signIn, test, violationsOf } from './story';

test.describe.configure({ mode: 'serial' });

/** The dialog on the screen has no violation. */
async function checkDialog(page: Page): Promise<void> {
  await expect(page.getByRole('dialog')).toBeVisible();
  expect(await violationsOf(page, '[role=dialog]')).toEqual([]);
}

test('a schedule is written with a preview of the change of the clocks, changed, seen in the calendar and deleted', async ({ page }) => {
  await page.goto('/schedules');
  await page.getByRole('link', { name: 'New schedule' }).click();
  await page.getByLabel('Name').fill('spring');
  await page.getByLabel('Cron').fill('61 2 * * *');
  await expect(page.getByLabel('Cron')).toHaveAttribute('aria-invalid', 'true');
  await page.getByLabel('Cron').fill('30 2 * * *');
  await page.getByLabel('Time zone').fill('Europe/Berlin');
  await page.getByLabel('Not before').fill('2027-03-27T00:00');
  await expect(page.getByText('every day at 02:30, Europe/Berlin')).toBeVisible();
  await expect(page.getByText('2027-03-28 03:00 +02:00')).toBeVisible();
  await expect(page.getByText('The clock jumps forward')).toBeVisible();
  await page.getByLabel('Not before').fill('');
  await page.getByLabel('Script', { exact: true }).fill('hello');
  await page.getByLabel('Parameters').fill('NAME=Ada <b>\nX=1=2');
  await page.getByLabel('Target').fill('tag:shop &');
  await expect(page.locator('#target-error')).toBeVisible();
  await page.getByLabel('Target').fill('tag:shop');
  await expect(page.getByText('Matches 3 agents now')).toBeVisible();
  await page.getByRole('button', { name: 'Create the schedule' }).click();
  await expect(page.getByRole('heading', { name: 'spring', level: 1 })).toBeVisible();

  await page.getByRole('link', { name: 'Change' }).click();
  await expect(page.getByLabel('Parameters')).toHaveValue('NAME=Ada <b>\nX=1=2');
  await page.getByRole('button', { name: 'Every so often' }).click();
  await page.getByRole('textbox', { name: 'Every' }).fill('2');
  await expect(page.getByText('every 2 hours')).toBeVisible();
  await page.getByRole('button', { name: 'Save' }).click();
  await expect(page.getByText('every 2 hours')).toBeVisible();
  await page.goto('/schedules?view=calendar&week=1');
  await expect(page.getByRole('link', { name: /planned.*spring/ }).first()).toBeVisible();
  await page.getByRole('link', { name: /planned.*spring/ }).first().click();
  await page.getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await expect(page).toHaveURL('/schedules');
  await expect(page.getByRole('link', { name: 'nightly' })).toBeVisible();
  await expect(page.getByRole('link', { name: 'spring' })).toHaveCount(0);
});

test('a rule of approval is added as a sentence and deleted', async ({ page }) => {
  await page.goto('/approvals/rules');
  await expect(page.getByText('hello on tag:shop')).toBeVisible();
  await page.getByRole('button', { name: 'Add a rule' }).click();
  await checkDialog(page);
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Name').fill('night');
  await dialog.getByLabel('Target').fill('tag:db');
  await dialog.getByLabel('commands without a script').check();
  await dialog.getByLabel('Only for more agents than').fill('5');
  await dialog.getByRole('button', { name: 'Add a rule' }).click();
  await expect(page.getByText('commands without a script on tag:db, above 5 agents')).toBeVisible();
  await page.getByRole('button', { name: 'Delete night' }).click();
  await dialog.getByRole('button', { name: 'Delete' }).click();
  await expect(page.getByText('commands without a script on tag:db')).toHaveCount(0);
});

test('a group is made, paused, resumed and deleted', async ({ page }) => {
  await page.goto('/updates');
  await page.getByRole('link', { name: 'New group' }).click();
  await page.getByLabel('Name').fill('canary');
  await page.getByLabel('Target').fill('name:shop-1');
  await expect(page.getByText('Matches 1 agent now')).toBeVisible();
  await page.getByLabel('Size of a wave').fill('25%');
  await page.getByRole('button', { name: 'Create the group' }).click();
  await expect(page.getByRole('heading', { name: 'canary' })).toBeVisible();
  await page.getByRole('button', { name: 'Pause' }).click();
  await expect(page.getByText('paused')).toBeVisible();
  await page.getByRole('button', { name: 'Resume' }).click();
  await expect(page.getByText('active')).toBeVisible();
  await page.getByRole('link', { name: 'Change' }).click();
  await expect(page.getByLabel('Size of a wave')).toHaveValue('25%');
  await page.getByRole('link', { name: 'Cancel' }).click();
  await page.getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await expect(page.getByText('No groups: agents keep their version')).toBeVisible();
});

test('a group shows its cohorts, and why one of them is held back', async ({ page }) => {
  await ask('publish_release');
  // The agents of this story are not installed, and can't be updated.
  const { id } = await send(page, 'POST', '/api/groups', { name: 'shops', target: { expression: 'tag:shop' }, desired_version: '0.2.0', max_failures: 1 });
  await page.goto(`/updates/groups/${id}`);
  const cohort = page.getByRole('region', { name: 'Cohorts' }).getByRole('listitem');
  await expect(cohort).toHaveText(/^linux \S+ unknown\s*canary failed\s*3 agents\s*Canary:\s*shop-1.*The other agents are not updated\. Pause and resume the group/);
  await expect(page.getByText('active')).toBeVisible();
  expect(await violationsOf(page)).toEqual([]);
  await chooseLanguage(page, 'de');
  await expect(page.getByRole('region', { name: 'Kohorten' }).getByRole('listitem')).toContainText('Vorläufer gescheitert');
  await chooseLanguage(page, 'en');
  await cohort.getByRole('link', { name: 'shop-1' }).click();
  await expect(page.getByRole('heading', { name: 'shop-1' })).toBeVisible();
  await send(page, 'DELETE', `/api/groups/${id}`);
});

test('an API key gets limits, a new secret and an end', async ({ page }) => {
  await page.goto('/settings/api-keys');
  await page.getByRole('button', { name: 'Create the key' }).click();
  await checkDialog(page);
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Name').fill('ci');
  await dialog.getByLabel('Only for the target').fill('tag:shop');
  await dialog.getByLabel('Only these scripts').fill('hello check');
  await dialog.getByLabel('At most this many agents at once').fill('2');
  await dialog.getByRole('button', { name: 'Create the key' }).click();
  await expect(page.getByText(/^mst_live_\w{40,}/)).toBeVisible();
  await expect(page.getByRole('row', { name: /^ci/ })).toContainText('at most 2 agents');
  await page.getByRole('button', { name: 'Change ci' }).click();
  await expect(dialog.getByLabel('Only these scripts')).toHaveValue('check hello');
  await dialog.getByLabel('At most this many agents at once').fill('');
  await dialog.getByRole('button', { name: 'Save' }).click();
  await expect(page.getByRole('row', { name: /^ci/ })).not.toContainText('at most 2 agents');
  await page.getByRole('button', { name: 'Rotate ci' }).click();
  await dialog.getByLabel('The old secret works').selectOption('for one more day');
  await dialog.getByRole('button', { name: 'Rotate' }).click();
  await expect(page.getByText('This is the new secret of ci')).toBeVisible();
  await page.getByRole('button', { name: 'end it now' }).click();
  await expect(page.getByText('The secret before works')).toHaveCount(0);
  await page.getByRole('button', { name: 'Revoke ci' }).click();
  await dialog.getByRole('button', { name: 'Revoke' }).click();
  await expect(page.getByRole('row', { name: /^ci/ })).toHaveCount(0);
});

test('agents are tagged together, and a search is kept by its name', async ({ page }) => {
  await page.goto('/fleet?q=tag:shop');
  await page.getByRole('button', { name: 'Save this search' }).click();
  await page.getByRole('dialog').getByLabel('Name').fill('the shop');
  await page.getByRole('dialog').getByRole('button', { name: 'Save' }).click();
  await page.getByLabel('Select all 3').check();
  await page.getByRole('button', { name: 'Tag 3 agents' }).click();
  await checkDialog(page);
  await page.getByLabel('Add these tags').fill('blue eu');
  await page.getByRole('dialog').getByRole('button', { name: 'Tag 3 agents' }).click();
  await expect(page.getByRole('row').filter({ hasText: 'shop-2' })).toContainText('blue');
  await page.goto('/fleet?q=tag:blue');
  await expect(page.getByText('3 of 4', { exact: true })).toBeVisible();
  await page.getByLabel('Select all 3').check();
  await page.getByRole('button', { name: 'Tag 3 agents' }).click();
  await page.getByLabel('Remove these tags').fill('blue, eu');
  await page.getByRole('dialog').getByRole('button', { name: 'Tag 3 agents' }).click();
  await expect(page.getByText('No agent matches the search')).toBeVisible();
  await page.getByRole('link', { name: 'the shop' }).click();
  await expect(page).toHaveURL('/fleet?q=tag%3Ashop');
  await expect(page.getByText('3 of 4', { exact: true }).first()).toBeVisible();
});

test('an agent is renamed to hostile text, which every screen shows as text', async ({ page }) => {
  const path = `/fleet/${ids().agent}`;
  await page.goto(path);
  await expect(page.getByRole('button', { name: 'More actions' })).toBeVisible();
  const before = await page.getByRole('heading', { level: 1 }).innerText();
  const rename = async (name: string): Promise<void> => {
    await page.goto(path);
    await page.getByRole('button', { name: 'More actions' }).click();
    await page.getByRole('menuitem', { name: 'Rename and tag…' }).click();
    await checkDialog(page);
    await page.getByRole('dialog').getByLabel('Name').fill(name);
    await page.getByRole('dialog').getByRole('button', { name: /Save/ }).click();
    await expect(page.getByRole('dialog')).toHaveCount(0);
  };
  const hostile = '<img src=x onerror=alert(1)>';
  await rename(hostile);
  for (const screen of [path, '/fleet', '/run?q=tag:shop', `/executions/${ids().execution}`, `/jobs/${ids().job}`, '/history', '/audit']) {
    await page.goto(screen);
    await expect(page.getByText(hostile).first()).toBeAttached();
    expect(await page.locator('main img').count(), screen).toBe(0);
  }
  await page.goto(path);
  await page.getByRole('button', { name: 'More actions' }).click();
  await page.getByRole('menuitem', { name: 'Accept a new key pair…' }).click();
  await expect(page.getByText('This is possible while it is offline.')).toBeVisible();
  await page.keyboard.press('Escape');
  await rename(before);
});

test('a job in waves shows when each wave ran', async ({ page }) => {
  await page.goto('/run?q=tag:shop&script=check');
  await page.locator('summary').click();
  await page.getByLabel('Size of a wave').fill('1');
  await page.getByLabel('Halt after more failures than').fill('0');
  await page.getByRole('button', { name: 'Run on 3 agents' }).click();
  await expect(page.getByText('Wave 1', { exact: true })).toBeVisible();
  await expect(page.getByText(/^\+0 ms, /)).toBeVisible();
  // The server gives the reason in English. Another language has the facts in its own words, and the job has the reason.
  await page.goto('/');
  await expect(page.getByText(/^check: Halted: 1 failed/)).toBeVisible();
  await chooseLanguage(page, 'de');
  await page.reload();
  await expect(page.getByText(/^check: Angehalten in Welle \d von 3\. 1 von 3 ist nicht gelungen, erlaubt sind 0\./)).toBeVisible();
  await expect(page.getByText('Halted')).toHaveCount(0);
  await chooseLanguage(page, 'en');
});

test('a person changes the password and the address, and forgets the password', async ({ page, newVisitor }) => {
  await page.goto('/settings/account');
  await page.getByLabel('Password now').fill('wrong horse battery');
  await page.getByLabel('New password').fill(`${PASSWORD} two`);
  await page.getByRole('button', { name: 'Change the password' }).click();
  await expect(page.getByRole('alert')).toHaveText('The password is wrong.');
  await page.getByLabel('Password now').fill(PASSWORD);
  await page.getByRole('button', { name: 'Change the password' }).click();
  await expect(page.getByText('The password is changed.')).toBeVisible();

  await page.getByLabel('New address').fill('lovelace@example.com');
  await page.getByRole('button', { name: 'Send the code' }).click();
  await expect(page.getByText('a code is on its way to lovelace@example.com')).toBeVisible();
  await page.getByLabel('Code').fill(await lastSecret('lovelace@example.com', /\b\d{6}\b/));
  await page.getByRole('button', { name: 'Change the address' }).click();
  await expect(page.getByText('The address is changed.')).toBeVisible();
  await expect(page.getByText('lovelace@example.com')).toBeVisible();

  const visitor = await newVisitor();
  await visitor.goto('/');
  await visitor.getByRole('link', { name: 'Forgot the password?' }).click();
  await visitor.getByLabel('Email').fill('lovelace@example.com');
  await visitor.getByRole('button', { name: 'Send the mail' }).click();
  await visitor.getByLabel('Token').fill('nonsense');
  await visitor.getByLabel('New password').fill(PASSWORD);
  await visitor.getByRole('button', { name: 'Set the password' }).click();
  await expect(visitor.getByRole('alert')).toContainText('The token is wrong');
  await visitor.getByLabel('Token').fill(await lastSecret('lovelace@example.com', /mst_reset_\w+/));
  await visitor.getByRole('button', { name: 'Set the password' }).click();
  await expect(visitor.getByText('The password is set.')).toBeVisible();
  await visitor.getByLabel('Email').fill('lovelace@example.com');
  await visitor.getByLabel('Password', { exact: true }).fill(PASSWORD);
  await visitor.getByRole('button', { name: 'Sign in', exact: true }).click();
  await expect(visitor.getByRole('heading', { name: 'Overview' })).toBeVisible();
  await signIn(page, 'lovelace@example.com');
  await expect(page.getByRole('heading', { name: 'Overview' })).toBeVisible();
});

test('a person registers with the code of a mail, and adds an agent to a tenant of their own', async ({ newVisitor }) => {
  const visitor = await newVisitor();
  await visitor.goto('/');
  await visitor.getByRole('link', { name: 'Create an account' }).click();
  await visitor.getByLabel('Your name').fill('<b>Grace</b>');
  await visitor.getByLabel('Name of your team').fill('Navy');
  await visitor.getByLabel('Email').fill('grace@example.com');
  await visitor.getByLabel('Password').fill(PASSWORD);
  await visitor.getByRole('button', { name: 'Create the account' }).click();
  await visitor.getByLabel('Code').fill('000000');
  await visitor.getByRole('button', { name: 'Finish' }).click();
  await expect(visitor.getByRole('alert')).toContainText('The code is wrong');
  await visitor.getByLabel('Code').fill(await lastSecret('grace@example.com', /\b\d{6}\b/));
  await visitor.getByRole('button', { name: 'Finish' }).click();
  await expect(visitor.getByRole('heading', { name: 'Add an agent' })).toBeVisible();
  await expect(visitor.getByRole('button', { name: '<b>Grace</b>' })).toBeVisible();
  await visitor.goto('/fleet');
  await expect(visitor.getByText('No agents yet')).toBeVisible();
});

test('an invitation is a link, and a program signs in with the approval of its code', async ({ page, newVisitor }) => {
  await page.goto('/settings');
  await page.getByLabel('Email').fill('carol@example.com');
  await page.getByRole('button', { name: 'Invite' }).click();
  const link = await page.getByText(/\/accept#token=/).innerText();
  const carol = await newVisitor();
  await carol.goto(new URL(link).pathname + new URL(link).hash);
  await expect(carol).toHaveURL('/accept');
  await carol.getByLabel('Name').fill('Carol');
  await carol.getByLabel('Password').fill(PASSWORD);
  await carol.getByRole('button', { name: 'Join' }).click();
  await expect(carol.getByRole('heading', { name: 'Overview' })).toBeVisible();

  const started = await carol.request.post('/api/auth/device', { data: {}, headers: { 'user-agent': '<i>muster</i>' } });
  const { user_code: code } = (await started.json()) as { user_code: string };
  await carol.goto(`/device?user_code=${code}`);
  await expect(carol.getByText('<i>muster</i>')).toBeVisible();
  await carol.getByRole('button', { name: 'Approve' }).click();
  await expect(carol.getByText('The program is signed in.')).toBeVisible();
  await carol.goto('/device');
  await carol.getByLabel('Code').fill('BBBB-BBBB');
  await carol.getByRole('button', { name: 'Show the program' }).click();
  await expect(carol.getByRole('alert')).toContainText('No program waits with this code');

  await page.goto('/settings');
  await page.getByRole('row', { name: /Carol/ }).getByRole('combobox').selectOption('auditor');
  await expect(page.getByRole('row', { name: /Carol/ }).getByRole('combobox')).toHaveValue('auditor');
  await page.getByRole('button', { name: 'Remove Carol' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
  await expect(page.getByRole('row', { name: /Carol/ })).toHaveCount(0);
});

test('an auditor sees no button that the role does not allow', async ({ newVisitor }) => {
  const auditor = await newVisitor();
  await signIn(auditor, ids().auditor_email!);
  await expect(auditor.getByRole('heading', { name: 'Overview' })).toBeVisible();
  for (const [path, name] of [['/schedules', /New schedule/], ['/approvals/rules', /Add a rule|Delete/], ['/updates', /New group/], ['/fleet', /Add an agent|Tag /], [`/fleet/${ids().agent}`, /Run|Ping|More actions/], [`/schedules/${ids().schedule}`, /Change|Delete|Run now/], ['/settings/agent-keys', /Change|New secret|Delete/], ['/history', /^Run$/], ['/library', /New script|Run/], ['/settings/integrations', /New integration/], ['/settings/alerts', /New alert rule/], ['/settings/hooks', /New hook/], ['/schedules/calendars', /New calendar|Change|Delete/], ['/approvals/ladder', /Change|Add/], ['/settings/plan', /Rename|Delete|Download/]] as const) {
    await auditor.goto(path);
    await expect(auditor.getByRole('heading', { level: 1 })).toBeVisible();
    await expect(auditor.getByRole('status').filter({ hasText: 'Loading' })).toHaveCount(0);
    await expect(auditor.getByRole('main').getByRole('button', { name }), path).toHaveCount(0);
    await expect(auditor.getByRole('main').getByRole('link', { name }), path).toHaveCount(0);
  }
  await auditor.goto('/schedules/new');
  await expect(auditor.getByText('Your role can look, and not change schedules.')).toBeVisible();
  await auditor.goto('/updates/groups/new');
  await expect(auditor.getByText('Your role can look, and not change groups.')).toBeVisible();
});

test('the link of the demo signs in at once, and leaves no secret in the address', async ({ newVisitor }) => {
  const visitor = await newVisitor();
  // The set-up token of this server is used already.
  await visitor.route('**/api/setup', (route) => route.fulfill({ status: 201, json: {} }));
  await visitor.goto(`/set-up#token=mst_setup_1&email=lovelace@example.com&password=${encodeURIComponent(PASSWORD)}`);
  await expect(visitor.getByRole('heading', { name: 'Overview' })).toBeVisible();
  await expect(visitor).toHaveURL('/');
  expect(await visitor.evaluate(() => history.length)).toBeLessThan(4);
});
