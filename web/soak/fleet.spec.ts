// A person works while 10,000 agents are connected: nothing is mocked. The figures are printed; what is checked is
// that the page is right, holds few elements, and answers.
import { expect, type Page } from '@playwright/test';
import { ask, test } from '../tests/story';

test.describe.configure({ mode: 'serial' });
test.use({ account: 'ada@example.com' });

const AGENTS = Number(process.env.MUSTER_AGENTS);
/** The simulated ones, and a real one. */
const ALL = AGENTS + 1;
const shown = (count: number): string => new Intl.NumberFormat('en').format(count);
/** Most elements of a page: rows and squares that are not seen do not exist. */
const MAX_ELEMENTS = 9_000;

/** Measures from now on: tasks that hold the page, and how long the answer to a key or a click takes. */
async function watch(page: Page, what: string): Promise<() => Promise<void>> {
  await page.evaluate(() => {
    const seen = { tasks: [] as number[], answers: [] as number[] };
    Object.assign(window, { seen });
    new PerformanceObserver((list) => seen.tasks.push(...list.getEntries().map((entry) => Math.round(entry.duration)))).observe({ type: 'longtask' });
    new PerformanceObserver((list) => seen.answers.push(...list.getEntries().map((entry) => Math.round(entry.duration)))).observe({ type: 'event', durationThreshold: 16 } as PerformanceObserverInit);
  });
  const started = Date.now();
  return async () => {
    const seen = await page.evaluate(() => (window as unknown as { seen: { tasks: number[]; answers: number[] } }).seen);
    const elements = await page.evaluate(() => document.getElementsByTagName('*').length);
    console.log(`    ${what}: ${Date.now() - started} ms; longest task ${Math.max(0, ...seen.tasks)} ms, slowest answer ${Math.max(0, ...seen.answers)} ms; ${elements} elements`);
    expect(elements, what).toBeLessThan(MAX_ELEMENTS);
  };
}

test('the overview and the fleet show all agents, and the fleet is searched, sorted and selected', async ({ page }) => {
  let started = Date.now();
  await page.goto('/');
  await expect(page.getByText(`${shown(ALL)} of ${shown(ALL)} online`).first()).toBeVisible();
  console.log(`    overview loaded: ${Date.now() - started} ms`);
  started = Date.now();
  await page.goto('/fleet');
  await expect(page.getByText(`${shown(ALL)} of ${shown(ALL)} online`)).toBeVisible();
  console.log(`    fleet loaded: ${Date.now() - started} ms`);
  const scrolled = await watch(page, 'scrolled to the end');
  await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
  await expect(page.getByRole('link', { name: 'real-1' })).toBeVisible();
  await scrolled();
  await page.evaluate(() => scrollTo(0, 0));
  const searched = await watch(page, 'searched while typing');
  await page.getByRole('searchbox').pressSequentially('tag:second-half & name:host-09*');
  await expect(page.getByRole('status').filter({ hasText: `of ${shown(ALL)}` })).toBeVisible();
  await searched();
  await page.getByRole('searchbox').fill('');
  const sorted = await watch(page, 'sorted and selected');
  await page.getByRole('button', { name: 'Last seen' }).click();
  await page.getByRole('button', { name: 'Name' }).click();
  await page.getByLabel(`Select all ${shown(ALL)}`).check();
  await expect(page.getByRole('region', { name: 'Selected agents' })).toContainText(`${shown(ALL)} of ${shown(ALL)}`);
  await sorted();
});

test('a job runs on all simulated agents, and its page is watched to the end', async ({ page }) => {
  // A job has at most 10,000 executions.
  await page.goto('/run?q=tag:simulated&script=hello');
  const run = page.getByRole('button', { name: `Run on ${shown(AGENTS)} agents` });
  await expect(page.getByText(`${shown(AGENTS)} agents`, { exact: true })).toBeVisible();
  const typed = page.getByLabel(/^Type [\d,]+ to confirm/);
  if (await typed.isVisible()) await typed.fill(String(AGENTS));
  await run.click();
  await expect(page).toHaveURL(/\/jobs\//);
  const watched = await watch(page, `a job on ${shown(AGENTS)} agents`);
  await expect(page.getByText(`All ${shown(AGENTS)} executions are over.`)).toBeVisible({ timeout: 600_000 });
  await watched();
  const listed = await watch(page, 'its list');
  await page.getByRole('navigation', { name: 'Job' }).getByRole('link', { name: /^List/ }).click();
  await expect(page.getByRole('row').first()).toBeVisible();
  await listed();
});

test('100 MB of output are found to their end while the fleet is connected', async ({ page }) => {
  await page.goto('/run?q=name:real-1&script=big');
  await page.getByRole('button', { name: 'Run on 1 agent' }).click();
  await page.getByRole('link', { name: /real-1 · succeeded/ }).click();
  await expect(page.getByText(/^The first 92 MB are not loaded/)).toBeVisible();
  const loaded = await watch(page, '100 MB loaded and searched');
  await page.getByRole('button', { name: 'Load all' }).click();
  await expect(page.getByText(`${shown(100_000_000 / 80 + 2)} lines`)).toBeVisible();
  await page.getByRole('searchbox').pressSequentially('NEEDLE-at');
  await expect(page.getByText('1 hit', { exact: true })).toBeVisible();
  await loaded();
});

test('half of the fleet goes offline at once, and the page counts it without a reload', async ({ page }) => {
  await page.goto('/fleet');
  await expect(page.getByText(`${shown(ALL)} of ${shown(ALL)} online`)).toBeVisible();
  const gone = await watch(page, 'half of the fleet went offline');
  await ask('end_second_half');
  await expect(page.getByText(`${shown(Math.floor(AGENTS / 2) + 1)} of ${shown(ALL)} online`)).toBeVisible();
  await expect(page.getByText('live', { exact: true })).toBeVisible();
  await gone();
  await page.goto('/');
  await expect(page.getByRole('link', { name: /^and [\d,]+ more$/ })).toBeVisible();
});
