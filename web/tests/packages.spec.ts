// Packages: upload, versions, description, run form, deletion; and the deletion of a script that schedules run. It
// goes on with the server of the other specs.
import { expect } from '@playwright/test';
import { randomBytes } from 'node:crypto';
import { packageOf } from './archive';
import { checkScreen, checkScreens, FOUR_LOOKS, ids, signIn, test, violationsOf } from './story';

test.describe.configure({ mode: 'serial' });
const archive = (name: string, buffer: Buffer) => ({ name, mimeType: 'application/zip', buffer });

test('a package is uploaded with its progress, and the keyboard alone is enough', async ({ page }) => {
  await page.goto('/library');
  await page.getByRole('navigation', { name: 'Library' }).getByRole('link', { name: 'Packages' }).click();
  await expect(page.getByText('No packages yet')).toBeVisible();
  await page.getByRole('button', { name: 'Upload a package' }).first().focus();
  await page.keyboard.press('Enter');
  const dialog = page.getByRole('dialog', { name: 'Upload a package' });
  await expect(dialog).toBeVisible();
  expect(await violationsOf(page, '[role=dialog]')).toEqual([]);
  await expect(dialog.getByRole('button', { name: 'Upload', exact: true })).toBeDisabled();
  await dialog.getByLabel('Archive', { exact: true }).setInputFiles(archive('backup.zip', packageOf('backup', '1.2.0', randomBytes(3_000_000))));
  await expect(dialog.getByText('backup.zip')).toBeVisible();
  // A network of 2 MB/s shows the bar.
  const session = await page.context().newCDPSession(page);
  await session.send('Network.enable');
  await session.send('Network.emulateNetworkConditions', { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: 2_000_000 });
  await dialog.getByLabel('Archive', { exact: true }).focus();
  for (const name of ['Cancel', 'Upload']) {
    await page.keyboard.press('Tab');
    await expect(dialog.getByRole('button', { name, exact: true })).toBeFocused();
  }
  await page.keyboard.press('Enter');
  const bar = dialog.getByRole('progressbar', { name: 'Uploaded' });
  await expect(bar).toBeVisible();
  await expect(bar).toHaveAttribute('aria-valuenow', /^[1-9]\d*$/);
  await expect(page.getByRole('heading', { name: 'backup', level: 1 })).toBeVisible();
  await expect(page).toHaveURL('/library/packages/backup?version=1.2.0');
  await expect(page.getByRole('region', { name: 'Archive' }).getByText('not signed')).toBeVisible();
  await session.send('Network.emulateNetworkConditions', { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
  await session.detach();
});

test('an upload that is cancelled stores nothing', async ({ page }) => {
  const session = await page.context().newCDPSession(page);
  await session.send('Network.enable');
  await session.send('Network.emulateNetworkConditions', { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: 200_000 });
  await page.getByRole('button', { name: 'Upload a version' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Archive', { exact: true }).setInputFiles(archive('late.zip', packageOf('late', '1', randomBytes(3_000_000))));
  const isUpload = (request: { url(): string }): boolean => new URL(request.url()).pathname === '/api/packages';
  const started = page.waitForRequest((request) => isUpload(request) && request.method() === 'POST');
  await dialog.getByRole('button', { name: 'Upload', exact: true }).click();
  await expect(dialog.getByRole('progressbar')).toBeVisible();
  await started;
  // Without the bound of the network, the rest would be there before the page has cancelled it.
  const cancelled = page.waitForEvent('requestfailed', isUpload);
  await page.keyboard.press('Escape');
  await expect(dialog).toHaveCount(0);
  await cancelled;
  await session.send('Network.emulateNetworkConditions', { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: -1 });
  await session.detach();
  await page.goto('/library/packages');
  await expect(page.getByRole('link', { name: 'backup', exact: true })).toBeVisible();
  await expect(page.getByRole('link', { name: 'late', exact: true })).toHaveCount(0);
});

test('the description of the archive is shown as text, and the archive downloads', async ({ page }) => {
  await page.getByRole('link', { name: 'backup', exact: true }).click();
  const description = page.getByRole('region', { name: 'Description in muster.toml' });
  await expect(description).toContainText('bin/run.sh');
  await expect(description).toContainText('<b>');
  await expect(page.getByRole('main').locator('b')).toHaveCount(0);
  await expect(page.getByRole('region', { name: 'Parameters' })).toContainText('Whom it greets');
  await expect(page.getByText(/when unpacked/)).toContainText('in 3 entries');
  const started = page.waitForEvent('download');
  await page.getByRole('link', { name: 'Download' }).click();
  expect((await started).suggestedFilename()).toBe('backup-1.2.0.zip');
});

test('what is no package, and another content of a version, are refused with the reason', async ({ page }) => {
  await page.getByRole('button', { name: 'Upload a version' }).click();
  const dialog = page.getByRole('dialog');
  for (const [file, why] of [[Buffer.from('no archive'), 'The archive is not a package'], [packageOf('backup', '1.2.0'), 'This version exists already']] as const) {
    await dialog.getByLabel('Archive', { exact: true }).setInputFiles(archive('backup.zip', file));
    await dialog.getByRole('button', { name: 'Upload', exact: true }).click();
    await expect(dialog.getByRole('alert')).toContainText(why);
  }
  await dialog.getByLabel('Archive', { exact: true }).setInputFiles(archive('backup.zip', packageOf('backup', '1.10.0')));
  await dialog.getByRole('button', { name: 'Upload', exact: true }).click();
  await expect(page).toHaveURL('/library/packages/backup?version=1.10.0');
  await expect(page.getByRole('region', { name: 'Versions' }).getByRole('listitem')).toHaveCount(2);
  await page.getByRole('region', { name: 'Versions' }).getByRole('link', { name: /^1\.2\.0/ }).click();
  await expect(page.getByText('not the newest')).toBeVisible();
});

test('a package is run from its version: the form has its parameters, and hosts that refuse are named', async ({ page }) => {
  await page.getByRole('link', { name: 'Run 1.2.0…' }).click();
  await expect(page.locator('select#script')).toHaveValue('package:backup@1.2.0');
  await page.getByLabel('Target').fill('name:shop-1');
  await page.getByLabel('WHO').fill('world');
  await expect(page.getByText('Runs package:backup@1.2.0 on 1 agent.')).toBeVisible();
  // The hosts of these tests allow their own scripts only.
  await expect(page.getByText('1 would refuse')).toBeVisible();
  await expect(page.getByText('Scripts and packages of the server read no standard input.')).toBeVisible();
  await page.locator('select#script').selectOption('package:backup');
  await expect(page.getByText('The newest version runs:')).toContainText('1.10.0');
  await expect(page).toHaveURL(/script=package%3Abackup&.*WHO/);
  await page.reload();
  await expect(page.getByLabel('WHO')).toHaveValue('world');
});

test('before a version is deleted, the page names what runs it', async ({ page }) => {
  await page.goto('/schedules/new?q=tag:shop&script=package:backup@1.2.0');
  await page.getByLabel('Name').fill('with-package');
  await page.getByLabel('Parameters').fill('WHO=world');
  await page.getByRole('button', { name: 'Create the schedule' }).click();
  await expect(page.getByRole('heading', { name: 'with-package' })).toBeVisible();
  await page.goto('/library/packages/backup?version=1.10.0');
  const dialog = page.getByRole('dialog');
  await page.getByRole('button', { name: 'Delete 1.10.0' }).click();
  await expect(dialog).toContainText('backup 1.10.0');
  await expect(dialog.getByRole('link', { name: 'with-package' })).toHaveCount(0);
  await dialog.getByRole('button', { name: 'Delete' }).click();
  await expect(page).toHaveURL('/library/packages/backup');
  await page.getByRole('button', { name: 'Delete 1.2.0' }).click();
  await expect(dialog.getByRole('link', { name: 'with-package' })).toBeVisible();
  expect(await violationsOf(page, '[role=dialog]')).toEqual([]);
  await dialog.getByRole('button', { name: 'Cancel' }).click();
});

test('a script that a schedule runs is deleted only by force, and the refusal names the schedule', async ({ page }) => {
  await page.goto('/library/new');
  await page.getByLabel('Name', { exact: true }).fill('used');
  const trigger = page.getByRole('region', { name: 'Before it runs' });
  await expect(trigger.getByLabel('Packages (requirements.txt)')).toHaveCount(0);
  await page.getByLabel('Interpreter').fill('python');
  await trigger.getByLabel('Packages (requirements.txt)').fill('requests==2.32.3');
  await trigger.getByLabel('It has a trigger').check();
  await expect(trigger.getByText('trigger(data) and main(data)')).toBeVisible();
  // A shell's first line would be wrong in Python.
  await expect(page.getByRole('textbox', { name: 'Text' })).not.toContainText('/bin/sh');
  await page.getByRole('textbox', { name: 'Text' }).click();
  await page.keyboard.insertText('def trigger(data):\n  return True\n\n\ndef main(data):\n  print("main")\n');
  await page.getByRole('button', { name: 'Create the script' }).click();
  await expect(page.getByRole('region', { name: 'Facts' })).toContainText('It has a trigger');
  await expect(page.getByRole('region', { name: 'Facts' })).toContainText('requests==2.32.3');
  const address = page.url();
  await page.getByRole('link', { name: 'Edit' }).click();
  await expect(trigger.getByLabel('It has a trigger')).toBeChecked();
  await trigger.getByLabel('It has a trigger').uncheck();
  await page.getByRole('button', { name: 'Save version 2' }).click();
  await expect(page.getByText('version 2 is current')).toBeVisible();
  await expect(page.getByRole('region', { name: 'Facts' })).not.toContainText('It has a trigger');

  await page.goto('/schedules/new?q=tag:shop&script=library:used');
  await page.getByLabel('Name').fill('uses-it');
  await page.getByRole('button', { name: 'Create the schedule' }).click();
  await expect(page.getByRole('heading', { name: 'uses-it' })).toBeVisible();
  await page.goto(address);
  await page.getByRole('button', { name: 'Delete' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('button', { name: 'Delete', exact: true }).click();
  await expect(dialog.getByRole('alert')).toContainText('Schedules, hooks or assignments run this script.');
  await expect(dialog.getByRole('list', { name: 'What runs it' }).getByRole('link', { name: 'uses-it' })).toBeVisible();
  expect(await violationsOf(page, '[role=dialog]')).toEqual([]);
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  await expect(page.getByRole('heading', { name: 'used', level: 1 })).toBeVisible();
  await page.getByRole('button', { name: 'Delete' }).click();
  await dialog.getByRole('button', { name: 'Delete', exact: true }).click();
  await dialog.getByRole('button', { name: 'Delete it all the same' }).click();
  await expect(page).toHaveURL('/library');
  await expect(page.getByRole('link', { name: 'used', exact: true })).toHaveCount(0);
});

test('an auditor sees packages and can change none', async ({ newVisitor }) => {
  const auditor = await newVisitor();
  await signIn(auditor, ids().auditor_email!);
  await expect(auditor.getByRole('heading', { name: 'Overview' })).toBeVisible();
  for (const [path, seen] of [['/library/packages', 'backup'], ['/library/packages/backup', 'bin/run.sh']] as const) {
    await auditor.goto(path);
    await expect(auditor.getByRole('main').getByText(seen).first()).toBeVisible();
    await expect(auditor.getByRole('main').getByRole('button', { name: /^(Upload|Delete)/ })).toHaveCount(0);
    await expect(auditor.getByRole('main').getByRole('link', { name: /^Run/ })).toHaveCount(0);
  }
});

test('these screens have no violation of accessibility and do not scroll sideways, in both themes and three widths', async ({ page }) => {
  test.setTimeout(180_000);
  await checkScreens(page, [['packages', '/library/packages'], ['package', '/library/packages/backup'], ['package-gone', '/library/packages/backup?version=9']], FOUR_LOOKS);
});

test('what was made here is deleted again', async ({ page }) => {
  for (const name of ['with-package', 'uses-it']) {
    await page.goto('/schedules');
    await page.getByRole('link', { name, exact: true }).click();
    await page.getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await expect(page).toHaveURL('/schedules');
  }
  await page.goto('/library/packages/backup');
  await page.getByRole('button', { name: 'Delete 1.2.0' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await expect(page.getByText('No packages yet')).toBeVisible();
});
