// A tenant that requires a second factor, and the identities of a person. It goes on with the server of the other
// specs, and leaves it as it was.
import { expect, type Page } from '@playwright/test';
import { checkScreen, codeAt, confirmed, ids, LATER_EMAIL, PASSWORD, signIn, test } from './story';

let recovery: string[] = [];
test.describe.configure({ mode: 'serial' });
test.use({ account: LATER_EMAIL });

const step = (): number => Math.floor(Date.now() / 30_000);
/** Sets up the second factor on the page, and says the recovery codes. */
async function setUp(on: Page): Promise<string[]> {
  await on.getByRole('button', { name: 'Set up the second factor' }).click();
  await confirmed(on, on.getByRole('img', { name: 'QR code for the app' }));
  const secret = await on.locator('code').first().innerText();
  await on.getByLabel('Code that the app shows').fill(codeAt(secret, step()));
  await on.getByRole('button', { name: 'Enable' }).click();
  const codes = on.getByRole('list', { name: 'Recovery codes' }).getByRole('listitem');
  await expect(codes).toHaveCount(10);
  return codes.allInnerTexts();
}
async function check(on: Page, name: string): Promise<void> {
  for (const theme of ['dark', 'light'] as const) {
    await on.evaluate((chosen) => (document.documentElement.dataset.theme = chosen), theme);
    await checkScreen(on, `${name}-${theme}`);
  }
}

test('an owner without a second factor cannot require one, and is led to it', async ({ page }) => {
  await page.goto('/settings/plan');
  await page.getByRole('button', { name: 'Require it of all members' }).click();
  await confirmed(page, page.getByText('You have no second factor. Set up yours first.'));
  await page.getByRole('link', { name: 'Set up the second factor' }).click();
  await expect(page).toHaveURL('/settings/account');
  recovery = await setUp(page);
  await page.getByRole('button', { name: 'I keep them' }).click();
});

test('members without one see only how to set it up, also in the middle of their work, and then go on', async ({ page, newVisitor }) => {
  const audrey = await newVisitor({ viewport: { width: 390, height: 844 } });
  await signIn(audrey, ids().auditor_email!);
  await expect(audrey.getByRole('heading', { name: 'Overview' })).toBeVisible();

  await page.goto('/settings/plan');
  await page.getByRole('button', { name: 'Require it of all members' }).click();
  await confirmed(page, page.getByText('Every member with a password needs a second factor.'));

  // Her session was there before. Something that her page reads by itself may lead to it before she does something.
  const required = audrey.getByRole('heading', { name: 'Set up a second factor' });
  await audrey.getByRole('link', { name: 'Jobs' }).or(required).last().click();
  await expect(required).toBeVisible();
  await check(audrey, 'required-factor-390');
  await audrey.getByRole('button', { name: 'Sign out' }).click();
  await expect(audrey.getByRole('heading', { name: 'Sign in' })).toBeVisible();

  const bob = await newVisitor();
  await bob.goto('/history?state=succeeded');
  await bob.getByLabel('Email').fill('bob@example.com');
  await bob.getByLabel('Password', { exact: true }).fill(PASSWORD);
  await bob.getByRole('button', { name: 'Sign in', exact: true }).click();
  await expect(bob.getByRole('heading', { name: 'Set up a second factor' })).toBeVisible();
  await expect(bob.getByRole('navigation')).toHaveCount(0);
  await bob.reload();
  await expect(bob.getByRole('heading', { name: 'Set up a second factor' })).toBeVisible();
  await setUp(bob);
  await check(bob, 'required-factor-codes-1440');
  await bob.getByRole('button', { name: 'I keep them, continue' }).click();
  await expect(bob.getByRole('heading', { name: 'History' })).toBeVisible();
  await expect(bob).toHaveURL('/history?state=succeeded');
  await expect(bob.locator('tbody tr').first()).toBeVisible();
});

test('a change is confirmed by a code of the second factor, too', async ({ page }) => {
  await page.goto('/settings/plan');
  await expect(page.getByRole('button', { name: 'No longer require it' })).toBeVisible();
  await page.route('**/api/tenant', (route) => route.fulfill({ status: 403, contentType: 'application/problem+json', json: { type: 'about:blank', title: 'Forbidden', status: 403, code: 'confirmation_required', detail: 'confirm first' } }), { times: 1 });
  await page.getByRole('button', { name: 'No longer require it' }).click();
  const dialog = page.getByRole('dialog', { name: 'Confirm that it is you' });
  await dialog.getByRole('button', { name: 'Use a code of the second factor' }).click();
  await dialog.getByLabel('Code that the app shows').fill('000000');
  await dialog.getByRole('button', { name: 'Confirm' }).click();
  await expect(dialog.getByRole('alert')).toHaveText('The code is wrong, or was used before.');
  await dialog.getByRole('button', { name: 'Use the password' }).click();
  await dialog.getByLabel('Password').fill(PASSWORD);
  await dialog.getByRole('button', { name: 'Confirm' }).click();
  await expect(page.getByText('Members decide for themselves')).toBeVisible();
  await page.goto('/settings/account');
  await page.getByRole('button', { name: 'Disable' }).click();
  await page.getByLabel('Code that the app shows, or a recovery code').fill(recovery[0]!);
  await page.getByRole('dialog').getByRole('button', { name: 'Disable' }).click();
  await expect(page.getByRole('button', { name: 'Set up the second factor' })).toBeVisible();
});

test('linked identities are listed and removed, and the last way in stays', async ({ page }) => {
  const id = (last: string): string => `01a20000-0000-7000-8000-00000000000${last}`;
  const tenant = ((await (await page.request.get('/api/me')).json()) as { tenant_id: string }).tenant_id;
  let items = [
    { id: id('1'), provider: 'corp', issuer: 'https://id.example.com', subject: '<b>ada</b>\u202e', created_at: new Date().toISOString(), follows_in: tenant },
    { id: id('2'), provider: null, issuer: 'https://old.example.com', subject: 'ada', created_at: new Date().toISOString(), follows_in: null },
  ];
  await page.route('**/api/auth/oidc/providers', (route) => route.fulfill({ json: { items: [{ name: 'corp', title: 'Corp', start_path: '/api/auth/oidc/corp/start' }] } }));
  await page.route('**/api/me/identities', (route) => route.fulfill({ json: { items } }));
  await page.route('**/api/me/identities/*', (route) => {
    if (items.length === 1) return route.fulfill({ status: 409, contentType: 'application/problem+json', json: { type: 'about:blank', title: 'Conflict', status: 409, code: 'last_way_in', detail: 'the account has no password' } });
    items = items.filter((item) => !route.request().url().endsWith(item.id));
    return route.fulfill({ status: 204 });
  });
  await page.goto('/settings/account');
  const region = page.getByRole('region', { name: 'Single sign-on' });
  await expect(region.getByText('<b>ada</b>\\u{202e}')).toBeVisible();
  await expect(region.getByText('It makes you a member of')).toBeVisible();
  await expect(region.getByText('This server no longer offers it.')).toBeVisible();
  await expect(page.getByLabel('Also remove my links to single sign-on')).toBeVisible();
  await check(page, 'identities-1440');
  await region.getByRole('button', { name: /^Remove Corp/ }).click();
  const dialog = page.getByRole('dialog', { name: 'Remove this identity?' });
  await expect(dialog.getByText(/^Your membership in .* ends, too\.$/)).toBeVisible();
  await dialog.getByRole('button', { name: 'Remove' }).click();
  await expect(dialog).toHaveCount(0);
  await expect(region.getByText('<b>ada</b>')).toHaveCount(0);
  await region.getByRole('button', { name: /^Remove https/ }).click();
  await dialog.getByRole('button', { name: 'Remove' }).click();
  await expect(dialog.getByText('This is the only way into your account.')).toBeVisible();
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  await page.unrouteAll();
});
