// Much of everything: 100 MB of output, and 10,000 agents. The figures are printed; what is checked is that the
// page holds few elements, finds everything, and answers. It continues with the server of the other specs.
import { expect, type Page } from '@playwright/test';
import { test } from './story';

test.describe.configure({ mode: 'serial' });

/** Counts tasks that held the page for more than 50 ms from now on, and says what the longest was. */
async function watchTasks(page: Page): Promise<() => Promise<string>> {
  await page.evaluate(() => {
    const found: number[] = [];
    Object.assign(window, { found });
    new PerformanceObserver((list) => found.push(...list.getEntries().map((entry) => Math.round(entry.duration)))).observe({ type: 'longtask' });
  });
  const started = Date.now();
  return async () => {
    const found = await page.evaluate(() => (window as unknown as { found: number[] }).found);
    return `${Date.now() - started} ms, ${found.length} long tasks, the longest ${Math.max(0, ...found)} ms`;
  };
}

test('100 MB of output are loaded on demand, shown in few elements, and searched', async ({ page }) => {
  test.setTimeout(240_000);
  await page.goto('/run?q=name:shop-1&script=big');
  await page.getByRole('button', { name: 'Run on 1 agent' }).click();
  await page.getByRole('link', { name: /shop-1 · succeeded/ }).click({ timeout: 120_000 });
  // At first only the end is loaded.
  await expect(page.getByText(/^The first 92 MB are not loaded/)).toBeVisible({ timeout: 60_000 });
  await expect(page.getByRole('log')).toContainText('needle-at-the-end');
  // A link to a line says from where lines count, and shows the same line later.
  const last = page.getByRole('log').locator('div', { hasText: 'needle-at-the-end' }).last();
  await last.locator('a').click();
  await expect(page).toHaveURL(/from=\d+#L\d+$/);
  const number = await last.locator('a').innerText();
  await page.reload();
  await expect(page.getByRole('log').locator('div', { hasText: 'needle-at-the-end' }).last().locator('a')).toHaveText(number);
  await expect(page.getByRole('button', { name: `Copy the link to line ${number}` })).toBeVisible();
  // What is not loaded is searched on the server, and a line of it is shown with what is around it.
  let tasks = await watchTasks(page);
  await page.getByRole('searchbox').fill('NEEDLE-at-the-s');
  await expect(page.getByText('1 line has it in the first 92 MB, which are not loaded.')).toBeVisible({ timeout: 60_000 });
  console.log(`    92 MB searched on the server: ${await tasks()}`);
  await page.getByRole('list', { name: 'Lines that the server found' }).getByRole('button').click();
  await expect(page).toHaveURL(/until=\d+#L1$/);
  await expect(page.getByRole('log')).toContainText('needle-at-the-start');
  await expect(page.getByText(/^The last 96 MB are not loaded/)).toBeVisible();
  await page.reload();
  await expect(page.getByRole('log')).toContainText('needle-at-the-start');
  await page.getByRole('button', { name: 'Times' }).click();
  await expect(page).toHaveURL(/times=1/);
  await expect(page.getByRole('log').getByTitle(/^Received /).first()).toHaveText(/^\d\d:\d\d:\d\d$/);
  await page.getByRole('button', { name: 'Times' }).click();
  // The first line, lines of 80 bytes, an empty one, and the last.
  const lines = 1 + 100_000_000 / 80 + 2;
  tasks = await watchTasks(page);
  await page.getByRole('button', { name: 'Load all' }).first().click();
  await expect(page.getByText(`${new Intl.NumberFormat('en').format(lines)} lines`)).toBeVisible({ timeout: 120_000 });
  console.log(`    100 MB loaded: ${await tasks()}`);
  const log = page.getByRole('log');
  expect(await log.locator('a[href^="#L"]').count()).toBeLessThan(200);
  await log.evaluate((element) => element.scrollTo(0, 0));
  await expect(log.getByText('1', { exact: true })).toBeVisible();
  await log.evaluate((element) => element.scrollTo(0, element.scrollHeight / 2));
  await expect(log.getByText(String(Math.round(lines / 2)), { exact: true })).toBeAttached();
  tasks = await watchTasks(page);
  await page.getByRole('searchbox').fill('');
  await page.getByRole('searchbox').pressSequentially('NEEDLE-at-the-e');
  await expect(page.getByText('1 hit', { exact: true })).toBeVisible({ timeout: 60_000 });
  console.log(`    100 MB searched: ${await tasks()}`);
  await page.keyboard.press('Enter');
  await expect(log.getByText('needle-at-the-end')).toBeVisible();
});

test('10,000 agents are shown in few rows, filtered, sorted and selected', async ({ page }) => {
  const { items } = (await (await page.request.get('/api/agents?limit=1')).json()) as { items: Record<string, unknown>[] };
  await page.route('**/api/agents?*', async (route) => {
    const from = Number(new URL(route.request().url()).searchParams.get('cursor') ?? 0);
    const agents = Array.from({ length: 500 }, (_, i) => {
      const number = from + i;
      const name = number === 7 ? 'n'.repeat(200) : number === 8 ? '<b>x</b>\u202e' : `web-${number}`;
      return { ...items[0], id: `01a20000-0000-7000-8000-${String(number).padStart(12, '0')}`, name, tags: number % 3 ? ['web'] : ['db', 'eu'], status: number % 50 ? 'online' : 'offline' };
    });
    await route.fulfill({ json: { items: agents, next_cursor: from + 500 < 10_000 ? String(from + 500) : null } });
  });
  await page.goto('/fleet');
  await expect(page.getByText('9,800 of 10,000 online')).toBeVisible({ timeout: 60_000 });
  let tasks = await watchTasks(page);
  expect(await page.getByRole('row').count()).toBeLessThan(120);
  await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
  await expect(page.getByRole('link', { name: 'web-9999' })).toBeVisible();
  expect(await page.getByRole('row').count()).toBeLessThan(120);
  console.log(`    10,000 agents scrolled to the end: ${await tasks()}`);
  await page.evaluate(() => scrollTo(0, 0));
  tasks = await watchTasks(page);
  await page.getByRole('searchbox').pressSequentially('tag:db & status:offline');
  await expect(page.getByText('67 of 10,000', { exact: true })).toBeVisible();
  console.log(`    10,000 agents filtered while typing: ${await tasks()}`);
  await page.getByLabel('Select all 67').check();
  await expect(page.getByRole('region', { name: 'Selected agents' })).toContainText('67 of 10,000, 67 offline');
  await page.getByRole('searchbox').fill('');
  tasks = await watchTasks(page);
  await page.getByRole('button', { name: 'Last seen' }).click();
  await page.getByRole('button', { name: 'Name' }).click();
  await expect(page.getByRole('link', { name: '<b>x</b>\\u{202e}' })).toBeVisible();
  console.log(`    10,000 agents sorted twice: ${await tasks()}`);
  expect(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)).toBe(false);
  await page.unrouteAll();
});
