// What a schedule sends and keeps, and alerts. It continues with the server of the other specs, and leaves it as it was.
import { expect, type Page } from '@playwright/test';
import { ask, checkScreen, checkScreens, confirmed, ids, openScreen, PASSWORD, send, signIn, test, TWO_LOOKS } from './story';

test.describe.configure({ mode: 'serial' });

const screens: [name: string, path: string][] = [['alerts', '/settings/alerts'], ['alert-rule-new', '/settings/alerts/rules/new']];
const SECRET = 'mot-de-passe-4711';

/** No event announces an alert whose condition has held for long enough. */
async function reloaded(page: Page, seen: () => Promise<void>): Promise<void> {
  await expect(async () => {
    await page.getByRole('button', { name: 'Refresh' }).click();
    await seen();
  }).toPass({ timeout: 30_000 });
}

test('an alert rule is made on a phone with the keyboard alone, and its alert needs a person', async ({ page }) => {
  const { keyboard } = page;
  await page.setViewportSize({ width: 390, height: 844 });
  await page.goto('/settings/alerts');
  await expect(page.getByText('No rules: no alert opens')).toBeVisible();
  await expect(page.getByText('No alert is open.')).toBeVisible();
  await page.getByRole('link', { name: 'New alert rule' }).first().focus();
  await keyboard.press('Enter');
  await expect(page).toHaveURL('/settings/alerts/rules/new');
  await page.getByLabel('Name').focus();
  await keyboard.type('too few');
  await keyboard.press('Tab');
  await expect(page.getByLabel('What it looks at')).toBeFocused();
  await keyboard.press('Tab');
  await expect(page.getByLabel('Fewer agents online than')).toBeFocused();
  await keyboard.type('4');
  await keyboard.press('Tab');
  await keyboard.press('Control+a');
  await keyboard.type('0');
  await page.getByLabel('Target').focus();
  await keyboard.type('tag:shop');
  await expect(page.getByText('Matches 3 agents now')).toBeVisible();
  await keyboard.press('Enter');
  await expect(page.getByRole('heading', { name: 'too few', level: 1 })).toBeVisible();
  screens.push(['alert-rule', new URL(page.url()).pathname], ['alert-rule-edit', `${new URL(page.url()).pathname}/edit`]);
  await reloaded(page, () => expect(page.getByRole('table', { name: 'Alerts' }).getByRole('row').filter({ hasText: 'the whole target' })).toContainText('open', { timeout: 1_000 }));
  await page.setViewportSize({ width: 1440, height: 900 });

  await page.goto('/');
  const need = page.getByRole('listitem').filter({ hasText: 'too few: ' });
  await expect(need).toContainText('too few: 3 agents are online, fewer than 4');
  await need.getByRole('link', { name: 'Open: too few' }).click();
  await expect(page.getByRole('heading', { name: 'too few', level: 1 })).toBeVisible();
});

test('a rule is silenced until an instant, changed, and disabled', async ({ page }) => {
  await page.getByRole('button', { name: 'Silence', exact: true }).click();
  const dialog = page.getByRole('dialog', { name: 'Silence' });
  await dialog.getByRole('button', { name: '1 day' }).click();
  await dialog.getByRole('button', { name: 'Silence the rule' }).click();
  await expect(page.getByText('silenced', { exact: true })).toBeVisible();
  await page.getByRole('link', { name: 'Alerts', exact: true }).first().click();
  await expect(page.getByRole('table', { name: 'Alert rules' }).getByRole('row').filter({ hasText: 'too few' })).toContainText('silenced');
  await page.getByRole('table', { name: 'Alert rules' }).getByRole('link', { name: 'too few' }).click();
  await page.getByRole('button', { name: 'End the silence' }).click();
  await expect(page.getByText('active', { exact: true })).toBeVisible();

  await page.getByRole('link', { name: 'Change' }).click();
  await expect(page.getByLabel('Fewer agents online than')).toHaveValue('4');
  await expect(page.getByLabel('For minutes')).toHaveValue('0');
  await expect(page.getByLabel('Target')).toHaveValue('tag:shop');
  await page.getByLabel('Name').fill('most of the shop');
  await page.getByLabel('Resolved at').fill('3');
  await page.getByRole('button', { name: 'Save' }).click();
  // The server names the field that is wrong: fewer than the threshold resolve nothing.
  await expect(page.getByRole('alert')).toContainText('clear_threshold');
  await page.getByLabel('Resolved at').fill('5');
  await page.getByRole('button', { name: 'Save' }).click();
  await expect(page.getByRole('heading', { name: 'most of the shop', level: 1 })).toBeVisible();
  await expect(page.getByText('at least 5 agents are online')).toBeVisible();

  await page.getByRole('button', { name: 'Disable' }).click();
  await expect(page.getByText('disabled', { exact: true })).toBeVisible();
  await expect(page.getByText('the rule was changed')).toBeVisible();
  await page.goto('/settings/alerts');
  await expect(page.getByText('No alert is open.')).toBeVisible();
  await expect(page.getByRole('table', { name: 'Resolved alerts' })).toContainText('too few');
});

test('an alert opens and is resolved while a person watches, and names the agent', async ({ page }) => {
  const rule = await send(page, 'POST', '/api/alerts/rules', { name: 'shop-3 is gone', metric: 'agents_online', threshold: 1, for_ms: 0, target: { expression: 'name:shop-3' } });
  const busy = await send(page, 'POST', '/api/alerts/rules', { name: 'memory', metric: 'memory_percent', threshold: 0, for_ms: 0, target: { expression: 'name:shop-1' } });
  await page.goto('/settings/alerts');
  const open = page.getByRole('table', { name: 'Open alerts' });
  await reloaded(page, () => expect(open.getByRole('link', { name: 'shop-1' })).toBeVisible({ timeout: 1_000 }));
  await expect(open.getByRole('row').filter({ hasText: 'memory' })).toContainText(/Memory [\d.]+ % \(above 0 %\)/);
  await page.setViewportSize({ width: 390, height: 844 });
  await checkScreen(page, 'alerts-open-390');
  await page.setViewportSize({ width: 1440, height: 900 });
  await checkScreen(page, 'alerts-open-1440');
  await ask('stop_agent');
  await reloaded(page, () => expect(open.getByRole('link', { name: 'shop-3 is gone' })).toBeVisible({ timeout: 1_000 }));
  await ask('resume_agent');
  await reloaded(page, () => expect(open.getByRole('link', { name: 'shop-3 is gone' })).toHaveCount(0, { timeout: 1_000 }));
  await expect(page.getByRole('table', { name: 'Resolved alerts' }).getByRole('row').filter({ hasText: 'shop-3 is gone' })).toContainText('resolved');
  await send(page, 'DELETE', `/api/alerts/rules/${rule.id}`);

  await page.goto('/');
  await checkScreen(page, 'overview-alert-1440');
  const need = page.getByRole('listitem').filter({ hasText: /^memory: shop-1 has memory at/ });
  await need.getByRole('link', { name: 'Agent: memory' }).click();
  await expect(page.getByRole('heading', { name: 'shop-1' })).toBeVisible();
  await page.goto(`/settings/alerts/rules/${busy.id}`);
  await page.getByRole('button', { name: 'Delete' }).click();
  const dialog = page.getByRole('dialog', { name: 'Delete this alert rule?' });
  await expect(dialog).toContainText('memory');
  await dialog.getByRole('button', { name: 'Delete' }).click();
  await expect(page).toHaveURL('/settings/alerts');
  await expect(page.getByRole('link', { name: 'memory' })).toHaveCount(0);
});

test('a schedule sends its results to an address, and its secrets are written and never shown', async ({ page }) => {
  await page.goto('/schedules/new?q=tag:shop&script=hello');
  await page.getByLabel('Name', { exact: true }).fill('sealed');
  await page.getByLabel('Cron').fill('0 4 * * *');
  await page.getByLabel('Webhook').fill('https://ci.example.com/done?key=4711');
  await page.getByRole('button', { name: 'Add a secret parameter' }).click();
  const secrets = page.getByRole('group', { name: 'Secret parameters' }).first();
  await secrets.getByLabel('Name').fill('TOKEN');
  await secrets.getByLabel('Value').fill(SECRET);
  await page.getByLabel('Target').fill('tag:shop | tag:nowhere');
  await expect(page.getByText('Secrets need a target of tags or ids')).toBeVisible();
  await page.getByLabel('Target').fill('tag:shop');
  await expect(page.getByText('Secrets need a target of tags or ids')).toHaveCount(0);
  await page.getByRole('button', { name: 'Create the schedule' }).click();
  await expect(page.getByRole('heading', { name: 'sealed', level: 1 })).toBeVisible();
  await expect(page.getByText('https://ci.example.com/done', { exact: true })).toBeVisible();
  await expect(page.getByText('TOKEN', { exact: true })).toBeVisible();
  const path = new URL(page.url()).pathname;
  screens.push(['schedule-sealed', path], ['schedule-sealed-edit', `${path}/edit`]);

  // Another name keeps them.
  await page.getByRole('link', { name: 'Change' }).click();
  await expect(page.getByRole('button', { name: 'Keep them' })).toHaveAttribute('aria-pressed', 'true');
  expect(await page.content()).not.toContain(SECRET);
  await page.getByLabel('Name', { exact: true }).fill('sealed and renamed');
  await page.getByRole('button', { name: 'Save' }).click();
  await expect(page.getByRole('heading', { name: 'sealed and renamed', level: 1 })).toBeVisible();
  await expect(page.getByText('TOKEN', { exact: true })).toBeVisible();
  await expect(page.getByText('https://ci.example.com/done', { exact: true })).toBeVisible();

  // With another job they are given again, and the browser does not send it without.
  await page.getByRole('link', { name: 'Change' }).click();
  await page.getByLabel('Script', { exact: true }).fill('check');
  await expect(page.getByText('With another job, give the secrets again')).toBeVisible();
  await expect(page.getByRole('button', { name: 'Keep them' })).toHaveCount(0);
  await expect(secrets.getByLabel('Name')).toHaveValue('TOKEN');
  await page.getByRole('button', { name: 'Save' }).click();
  await expect(page).toHaveURL(`${path}/edit`);
  await page.setViewportSize({ width: 390, height: 844 });
  await checkScreen(page, 'schedule-secrets-390');
  await page.setViewportSize({ width: 1440, height: 900 });
  await secrets.getByLabel('Value').fill(`${SECRET}-2`);
  await page.getByRole('checkbox', { name: 'Send no more results' }).check();
  await page.getByRole('button', { name: 'Save' }).click();
  await expect(page.getByText('TOKEN', { exact: true })).toBeVisible();
  await expect(page.getByText('check', { exact: true })).toBeVisible();
  await expect(page.getByText('https://ci.example.com/done')).toHaveCount(0);

  await page.getByRole('link', { name: 'Change' }).click();
  await page.getByRole('button', { name: 'Remove them' }).click();
  await page.getByRole('button', { name: 'Save' }).click();
  await expect(page.getByRole('heading', { name: 'sealed and renamed', level: 1 })).toBeVisible();
  await expect(page.getByText('TOKEN', { exact: true })).toHaveCount(0);
});

test('the fires of a schedule say when they started and ended, and how long they took', async ({ page }) => {
  const fires = page.getByRole('region', { name: 'Fires', exact: true });
  await expect(fires).toContainText('It has not fired yet.');
  await page.getByRole('button', { name: 'Run now' }).click();
  await expect(page.getByText(/of 3 executions did not succeed/)).toBeVisible();
  await page.goBack();
  const row = fires.getByRole('row').filter({ hasText: 'run by hand' });
  await expect(row).toContainText('fired');
  await expect(row.getByRole('time')).toHaveCount(3);
  await expect(row).toContainText(/\d m?s/);
});

test('the trigger of a script: its calls, its data, and main without it', async ({ page }) => {
  const script = await send(page, 'POST', '/api/scripts', { name: 'watch', interpreter: 'sh', body: 'true', has_trigger: true });
  const made = await send(page, 'POST', '/api/schedules', { name: 'poll', rule: { every_ms: 3_600_000 }, job: { script: 'library:watch', target: { tags: ['shop'] } } });
  screens.push(['schedule-trigger', `/schedules/${made.id}`]);
  await page.goto(`/schedules/${made.id}`);
  const trigger = page.getByRole('region', { name: 'Trigger' });
  await expect(trigger).toContainText('The schedule has not called the trigger yet.');
  await trigger.getByRole('button', { name: 'Run without the trigger' }).click();
  await expect(page).toHaveURL(/\/jobs\//);
  await expect(page.getByText(/of 3 executions did not succeed/)).toBeVisible();
  await page.goBack();
  // These hosts allow no script of the library: the call is counted, and says what became of it.
  const call = trigger.getByRole('listitem').filter({ hasText: 'shop-1' });
  await expect(call).toContainText('1 call');
  await expect(call).toContainText('rejected');
  await call.getByText('Data', { exact: false }).first().click();
  await expect(call.locator('pre')).toHaveText('{}');
  await call.getByRole('link', { name: 'shop-1' }).click();
  await expect(page.getByRole('heading', { name: 'shop-1' })).toBeVisible();

  // What hosts wrote is text.
  await page.route(`**/api/schedules/${made.id}/trigger-states*`, async (route) => {
    const answer = await route.fetch();
    const json = (await answer.json()) as { items: object[] };
    await route.fulfill({ response: answer, json: { ...json, items: json.items.map((item) => ({ ...item, data: { note: '<b>bold</b> \u202e' }, data_version: 2, is_first_call: false, last_outcome: 'main_skipped' })) } });
  });
  await page.goto(`/schedules/${made.id}`);
  await expect(call).toContainText('main was not needed');
  await expect(call).toContainText('changed 2 times');
  await call.getByText('Data', { exact: false }).first().click();
  await expect(call.locator('pre')).toContainText('<b>bold</b> \\u{202e}');
  await page.unrouteAll({ behavior: 'wait' });
  // A schedule of a script without a trigger has no such part.
  await page.goto(`/schedules/${ids().schedule}`);
  await expect(page.getByRole('heading', { name: 'nightly' })).toBeVisible();
  await expect(trigger).toHaveCount(0);
  // The editor keeps the trigger in the next version.
  await page.goto(`/library/${script.id}/edit`);
  await page.getByRole('textbox', { name: 'Text' }).click();
  await page.keyboard.press('Control+End');
  await page.keyboard.type('# changed');
  await page.keyboard.press('Control+s');
  await expect(page).toHaveURL(`/library/${script.id}`);
  expect(await send(page, 'GET', `/api/scripts/${script.id}`)).toMatchObject({ current_version: 2, has_trigger: true });
});

test('an owner decides what becomes of the schedules of those who leave', async ({ page }) => {
  await page.goto('/settings/plan');
  await page.getByRole('button', { name: 'Pass them on to an owner' }).click();
  const stop = page.getByRole('button', { name: 'Stop them' });
  await confirmed(page, stop);
  await page.reload();
  await stop.click();
  await confirmed(page, page.getByRole('button', { name: 'Pass them on to an owner' }));
});

test('an auditor sees alerts and triggers, and no button that changes them', async ({ newVisitor }) => {
  const auditor = await newVisitor();
  await signIn(auditor, ids().auditor_email!, PASSWORD);
  await expect(auditor.getByRole('heading', { name: 'Overview' })).toBeVisible();
  for (const [, path] of screens.filter(([name]) => ['alerts', 'alert-rule', 'schedule-trigger', 'schedule-sealed'].includes(name))) {
    await openScreen(auditor, path, 'light', 'en');
    const name = /New alert rule|Silence|Disable|Change|Delete|Run without/;
    await expect(auditor.getByRole('main').getByRole('button', { name }), path).toHaveCount(0);
    await expect(auditor.getByRole('main').getByRole('link', { name }), path).toHaveCount(0);
  }
  await auditor.goto('/settings/alerts/rules/new');
  await expect(auditor.getByText('Your role can look, and not change alert rules.')).toBeVisible();
});

test('none of these screens has a violation of accessibility or scrolls sideways, in both themes and on a phone', async ({ page }) => {
  test.setTimeout(240_000);
  await checkScreens(page, [...screens, ['plan', '/settings/plan']], TWO_LOOKS);
});

test('what these tests made is deleted again', async ({ page }) => {
  for (const list of ['/api/alerts/rules', '/api/schedules', '/api/scripts']) {
    const { items } = await send(page, 'GET', list);
    for (const { id, name } of items) if (['sealed and renamed', 'poll', 'watch', 'most of the shop'].includes(name)) await send(page, 'DELETE', `${list}/${id}`);
  }
  await page.goto('/settings/alerts');
  await expect(page.getByText('No rules: no alert opens')).toBeVisible();
});
