// What the tenant stores, by cause and by script. It uses the server of the other specs, and deletes nothing of them.
import { expect } from '@playwright/test';
import { checkScreens, ids, signIn, test, TWO_LOOKS } from './story';

test.describe.configure({ mode: 'serial' });

test('the storage of the tenant is shown by cause and by script, with quota and forecast', async ({ page }) => {
  // The server measures from time to time, and the page shows what it found.
  await expect(async () => {
    await page.goto('/settings/storage');
    await expect(page.getByRole('main').getByText('deploy', { exact: true }).first()).toBeVisible({ timeout: 2_000 });
  }).toPass({ timeout: 30_000 });
  const main = page.getByRole('main');
  await expect(main.getByRole('heading', { name: /stored$/ })).toBeVisible();
  await expect(main.getByText(/executions, .* of output \(.* written\), .* of history/).first()).toBeVisible();
  await expect(main.getByText('Audit log', { exact: true })).toBeVisible();
  await expect(main.getByText(/There is no quota\./)).toBeVisible();
  await expect(main.getByText(/No forecast yet: it needs samples of 3 days; .* writes \d+ % of the last 7 days\./).first()).toBeVisible();
  await expect(main.getByText('Free on the disk')).toBeVisible();
  await main.getByRole('link', { name: 'Plan', exact: true }).click();
  await main.getByRole('link', { name: 'Storage', exact: true }).click();
  await expect(page).toHaveURL('/settings/storage');
});

test('a quota that is reached is on the overview, and says what it does', async ({ page }) => {
  // The server's own answer, but with a quota: what the tenant of these tests stores would not reach the smallest one.
  await page.route('**/api/storage', async (route) => {
    const answer = await route.fetch();
    const report = (await answer.json()) as { quota: { counted_bytes: number } };
    await route.fulfill({ response: answer, json: { ...report, quota: { ...report.quota, limit_bytes: report.quota.counted_bytes, state: 'reached' } } });
  });
  await page.goto('/');
  const needs = page.getByRole('region', { name: 'Needs you' }).getByRole('listitem').filter({ hasText: 'Quota of history and output' });
  await expect(needs).toContainText('New executions are refused.');
  await needs.getByRole('link', { name: 'Open: Quota of history and output' }).click();
  await expect(page).toHaveURL('/settings/storage');
  await expect(page.getByRole('status').filter({ hasText: 'New executions are refused.' })).toBeVisible();
});

test('an owner deletes old history, after seeing how much that is', async ({ page }) => {
  await page.goto('/settings/storage');
  await page.getByRole('button', { name: 'Delete old history…' }).click();
  const dialog = page.getByRole('dialog', { name: 'Delete old history' });
  await dialog.getByLabel('Older than days').fill('0');
  await expect(dialog.getByText(/^\d+ executions? would be deleted\.$/)).toBeVisible();
  await dialog.getByLabel('Older than days').fill('x');
  await expect(dialog.getByRole('button', { name: 'Delete for good' })).toBeDisabled();
  await dialog.getByLabel('Older than days').fill('400');
  await expect(dialog.getByText('No execution is so old.')).toBeVisible();
  await dialog.getByRole('button', { name: 'Delete for good' }).click();
  await expect(page.getByRole('status').filter({ hasText: 'The last deletion is done' })).toBeVisible({ timeout: 20_000 });
});

test('an auditor sees it too', async ({ newVisitor }) => {
  const auditor = await newVisitor();
  await signIn(auditor, ids().auditor_email!);
  await expect(auditor.getByRole('heading', { name: 'Overview' })).toBeVisible();
  await auditor.goto('/settings/storage');
  await expect(auditor.getByRole('main').getByText('deploy', { exact: true }).first()).toBeVisible();
  await expect(auditor.getByRole('main').getByRole('button')).toHaveCount(0);
});

test('the screen has no violation of accessibility and does not scroll sideways, in both themes and on a phone', async ({ page }) => {
  await checkScreens(page, [['storage', '/settings/storage']], TWO_LOOKS);
});
