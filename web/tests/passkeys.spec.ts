// Passkeys, with a virtual authenticator of the browser. It continues with the server of the other specs, and leaves
// it as it was.
import { type CDPSession, expect, type Page } from '@playwright/test';
import { checkScreen, confirmed, LATER_EMAIL, PASSWORD, test } from './story';

test.describe.configure({ mode: 'serial' });
test.use({ account: LATER_EMAIL });
let recovery: string[] = [];

/** A device that verifies its person at once. */
async function device(on: Page): Promise<{ session: CDPSession; id: string }> {
  const session = await on.context().newCDPSession(on);
  await session.send('WebAuthn.enable');
  const options = { protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true } as const;
  const { authenticatorId } = await session.send('WebAuthn.addVirtualAuthenticator', { options });
  return { session, id: authenticatorId };
}
const region = (on: Page) => on.getByRole('region', { name: 'Passkeys' });

test('a passkey is added, and signs in without the password', async ({ page, newVisitor }) => {
  const { session, id } = await device(page);
  await page.goto('/settings/account');
  await region(page).getByLabel('Name of the device').fill('laptop <b>');
  await region(page).getByRole('button', { name: 'Add a passkey' }).click();
  const codes = region(page).getByRole('list', { name: 'Recovery codes' }).getByRole('listitem');
  await confirmed(page, codes.first());
  await expect(codes).toHaveCount(10);
  recovery = await codes.allInnerTexts();
  for (const theme of ['dark', 'light'] as const) {
    await page.evaluate((chosen) => (document.documentElement.dataset.theme = chosen), theme);
    await checkScreen(page, `passkeys-1440-${theme}`);
  }
  await region(page).getByRole('button', { name: 'I keep them' }).click();
  await expect(region(page).getByText('laptop <b>')).toBeVisible();
  await expect(region(page).getByText('Not used yet')).toBeVisible();

  // The same device again.
  await region(page).getByLabel('Name of the device').fill('again');
  await region(page).getByRole('button', { name: 'Add a passkey' }).click();
  await region(page).getByLabel('Code that the app shows, or a recovery code').fill(recovery[0]!);
  await region(page).getByRole('button', { name: 'Add a passkey' }).click();
  await expect(region(page).getByText('This device has a passkey of yours already.')).toBeVisible();

  // Another browser with the same passkey, as a password manager keeps it.
  const { credentials } = await session.send('WebAuthn.getCredentials', { authenticatorId: id });
  const elsewhere = await newVisitor({ viewport: { width: 390, height: 844 } });
  const other = await device(elsewhere);
  await elsewhere.goto('/history');
  await expect(elsewhere.getByRole('button', { name: 'Sign in with a passkey' })).toBeVisible();
  await checkScreen(elsewhere, 'sign-in-passkey-390');
  await elsewhere.getByRole('button', { name: 'Sign in with a passkey' }).click();
  await expect(elsewhere.getByText('The browser made no signature')).toBeVisible();
  await other.session.send('WebAuthn.addCredential', { authenticatorId: other.id, credential: credentials[0]! });
  await elsewhere.getByRole('button', { name: 'Sign in with a passkey' }).click();
  await expect(elsewhere.getByRole('heading', { name: 'History' })).toBeVisible();
  await expect(elsewhere).toHaveURL('/history');

  // The password alone is not enough any more.
  const third = await newVisitor();
  await third.goto('/');
  await third.getByLabel('Email').fill(LATER_EMAIL);
  await third.getByLabel('Password', { exact: true }).fill(PASSWORD);
  await third.getByRole('button', { name: 'Sign in', exact: true }).click();
  await expect(third.getByLabel('Recovery code')).toBeVisible();
  await third.getByLabel('Recovery code').fill(recovery[1]!);
  await third.getByRole('button', { name: 'Sign in', exact: true }).click();
  await expect(third.getByRole('heading', { name: 'Overview' })).toBeVisible();
});

test('a passkey is removed with a recovery code', async ({ page }) => {
  await page.goto('/settings/account');
  await region(page).getByRole('button', { name: /^Remove laptop/ }).click();
  const dialog = page.getByRole('dialog', { name: 'Remove this passkey?' });
  await dialog.getByRole('button', { name: 'Remove' }).click();
  const code = dialog.getByLabel('Code that the app shows, or a recovery code');
  await confirmed(page, code);
  await code.fill('000000');
  await dialog.getByRole('button', { name: 'Remove' }).click();
  await expect(dialog.getByRole('alert').or(dialog.getByText('The code is wrong')).first()).toBeVisible();
  await code.fill(recovery[2]!);
  await dialog.getByRole('button', { name: 'Remove' }).click();
  await expect(dialog).toHaveCount(0);
  await expect(region(page).getByText('laptop <b>', { exact: true })).toHaveCount(0);
});
