// From one authority of the server to the next, on a server that ends TLS itself. The operator takes the steps.
import { expect } from '@playwright/test';
import { ask, checkScreens, EMAIL, PASSWORD, test, TWO_LOOKS } from './story';

test.describe.configure({ mode: 'serial' });
test.use({ account: null });

test('the page says how far the rollover of the authority is, and what the next step is', async ({ page }) => {
  await page.goto(`/set-up#token=${process.env.MUSTER_SETUP_TOKEN}`);
  await expect(page.getByLabel('Your name')).toBeFocused();
  for (const text of ['Ada', EMAIL, PASSWORD]) {
    await page.keyboard.type(text);
    await page.keyboard.press(text === PASSWORD ? 'Enter' : 'Tab');
  }
  await expect(page.getByRole('heading', { name: 'Add an agent' })).toBeVisible();
  const panel = page.getByRole('region', { name: 'Authority of the server' });
  const shows = async (state: string, summary: string, command: string): Promise<void> => {
    await page.goto('/settings/certificates');
    await expect(panel.getByRole('status')).toHaveText(state);
    await panel.getByText(summary).click();
    await expect(panel.getByText(command, { exact: true })).toBeVisible();
  };
  await shows('No other authority is announced.', 'How another authority replaces it', 'muster ca rollover');
  await ask('announce_authority');
  await shows('Another authority is announced. The former one still signs, and both count.', 'The next step', 'muster ca rollover --switch');
  await checkScreens(page, [['authority', '/settings/certificates']], TWO_LOOKS);
  await ask('switch_authority');
  await shows('The next authority signs. The former one still counts until it is retired.', 'The last step', 'muster ca rollover --retire');
  await ask('retire_authority');
  await shows('No other authority is announced.', 'How another authority replaces it', 'muster ca rollover');
  // The agent of this server has followed.
  await page.goto('/fleet');
  await expect(page.getByText('1 of 1 online')).toBeVisible();
});
