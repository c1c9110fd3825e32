// Files that are pushed to hosts and pulled from them.
import { expect } from '@playwright/test';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ask, checkScreens, folder, ids, send, signIn, test, TWO_LOOKS } from './story';

test.describe.configure({ mode: 'serial' });

const PART = 4 * 1024 * 1024;
const content = randomBytes(2 * PART + 1_000);
const sha256 = createHash('sha256').update(content).digest('hex');
let host = '';
let hostName = '';
const allowed = (name: string): string => join(readFileSync(join(folder, 'files_folder'), 'utf8'), name);

test('a file is uploaded with its hash, continues after a cut, and is pushed from the page of an agent', async ({ page }) => {
  await ask('allow_files');
  // It has the name of its host, and the others have names that a person gave.
  ({ id: host, name: hostName } = (await send(page, 'GET', '/api/agents')).items.find(({ name }) => !name.startsWith('shop-'))!);
  await page.goto(`/fleet/${host}?tab=files`);
  await expect(page.getByText('No transfers yet')).toBeVisible();
  await page.getByRole('link', { name: 'Push a file' }).click();
  await expect(page.getByText('Choose a file.').first()).toBeVisible();

  // The second part is cut. What the server has is not sent again.
  const sent: number[] = [];
  let isCut = false;
  await page.route('**/api/files/*/content?*', (route) => {
    const offset = Number(new URL(route.request().url()).searchParams.get('offset_bytes'));
    if (offset === PART && !isCut) {
      isCut = true;
      return route.abort('connectionreset');
    }
    sent.push(offset);
    return route.continue();
  });
  await page.getByLabel('Upload a file').setInputFiles({ name: 'app.conf', mimeType: 'application/octet-stream', buffer: content });
  await expect(page.getByText('app.conf, 8.4 MB, is uploaded.')).toBeVisible();
  await expect(page.getByText(`SHA-256 ${sha256}`)).toBeVisible();
  expect([isCut, sent]).toEqual([true, [0, PART, 2 * PART]]);
  await page.unrouteAll();

  await page.getByLabel('Path on the host').fill('app.conf');
  await expect(page.getByText('The path is not a full path to a file')).toBeVisible();
  await page.getByLabel('Path on the host').fill(allowed('app.conf'));
  await page.getByLabel('Permissions').fill('0600');
  // A reload loses nothing: the file is on the server, and the rest in the address.
  await expect(page).toHaveURL(/permissions=0600/);
  await page.reload();
  await expect(page.getByText('app.conf, 8.4 MB, is uploaded.')).toBeVisible();
  await page.getByRole('button', { name: 'Run on 1 agent' }).click();
  await page.getByRole('link', { name: `${hostName} · succeeded` }).click();
  const facts = page.getByRole('region', { name: 'File' });
  await expect(facts).toContainText(allowed('app.conf'));
  await expect(facts).toContainText(sha256);
  expect(readFileSync(allowed('app.conf')).equals(content)).toBe(true);
  expect(statSync(allowed('app.conf')).mode & 0o777).toBe(0o600);
});

test('a file is pulled, and what is downloaded is what the agent signed', async ({ page }) => {
  writeFileSync(allowed('app.log'), 'line one\n<b>line two</b>\n');
  await page.goto(`/fleet/${host}?tab=files`);
  await page.getByRole('link', { name: 'Pull a file' }).click();
  await page.getByLabel('Path on the host').fill(allowed('app.log'));
  await page.getByRole('button', { name: 'Run on 1 agent' }).click();
  await page.getByRole('link', { name: `${hostName} · succeeded` }).click();
  const facts = page.getByRole('region', { name: 'File' });
  await expect(facts).toContainText(createHash('sha256').update('line one\n<b>line two</b>\n').digest('hex'));
  await expect(facts).toContainText('signed');
  const download = page.waitForEvent('download');
  await facts.getByRole('link', { name: 'Download the file' }).click();
  expect((await download).suggestedFilename()).toBe('app.log');
  expect(readFileSync(await (await download).path(), 'utf8')).toBe('line one\n<b>line two</b>\n');
  await expect(page.getByRole('log')).toContainText('<b>line two</b>');
});

test('what the policy of a host refuses is said in words, in the execution and in the history', async ({ page }) => {
  await page.goto(`/run?q=${encodeURIComponent(`id:${host} | name:shop-1`)}&mode=file&file=pull&path=/etc/hostname`);
  await page.getByRole('button', { name: 'Run on 2 agents' }).click();
  await page.getByRole('link', { name: `${hostName} · rejected` }).click();
  await expect(page.getByRole('region', { name: 'File' }).getByRole('alert')).toHaveText('The path is in no folder that the policy of the host lists.');
  // The form again has the same transfer.
  await page.getByRole('link', { name: 'Run again…' }).click();
  await expect(page.getByLabel('Path on the host')).toHaveValue('/etc/hostname');

  await page.goto('/library/files');
  const rows = page.getByRole('region', { name: 'Last transfers' }).getByRole('row');
  await expect(rows.filter({ hasText: 'shop-1' })).toContainText('The policy of the host lists no folder for this.');
  await expect(rows.filter({ hasText: 'app.conf' })).toContainText('succeeded');
});

test('an auditor sees transfers, and no button that starts one', async ({ newVisitor }) => {
  const auditor = await newVisitor();
  await signIn(auditor, ids().auditor_email!);
  await expect(auditor.getByRole('heading', { name: 'Overview' })).toBeVisible();
  await auditor.goto('/library/files');
  await expect(auditor.getByText('app.conf').first()).toBeVisible();
  await expect(auditor.getByRole('main').getByRole('link', { name: /^(Push|Pull) a/ })).toHaveCount(0);
  await expect(auditor.getByRole('main').getByRole('button', { name: 'Delete' })).toHaveCount(0);
});

test('these screens have no violation of accessibility and do not scroll sideways, and a file is deleted', async ({ page }) => {
  await checkScreens(page, [['files', '/library/files'], ['agent-files', `/fleet/${host}?tab=files`], ['run-file', `/run?q=id:${host}&mode=file&file=push&sha256=${sha256}&path=/srv/app/app.conf`]], TWO_LOOKS);
  await page.goto('/library/files');
  await page.getByRole('button', { name: 'Delete app.conf' }).click();
  await page.getByRole('dialog', { name: 'Delete this file?' }).getByRole('button', { name: 'Delete' }).click();
  await expect(page.getByText('No uploaded files')).toBeVisible();
});
