// What the specs share. The harness gives the address, the set-up token and a folder: a file in it asks for
// what only the harness can do.
import { type Browser, type BrowserContext, type BrowserContextOptions, expect, type Locator, type Page, test as base } from '@playwright/test';
import { createHmac } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const folder = process.env.MUSTER_CONTROL!;
export const EMAIL = 'ada@example.com';
/** The address that manage.spec.ts gives her. */
export const LATER_EMAIL = 'lovelace@example.com';
export const PASSWORD = 'correct horse battery';

/** What the browser complained about: errors of scripts, and everything that the policy of the page refused. */
const complaints: string[] = [];

interface Fixtures {
  /** Who is signed in when the file begins; null: no account. */
  account: string | null;
  /** Opens the browser of another person. */
  newVisitor: (options?: BrowserContextOptions) => Promise<Page>;
  noComplaints: void;
}
/** The tab that all tests of a file share: they are one story. */
interface Shared { current: { file: string; page: Page } | undefined }

export const test = base.extend<Fixtures, { shared: Shared }>({
  account: [EMAIL, { option: true }],
  shared: [
    async ({}, use) => {
      const shared: Shared = { current: undefined };
      await use(shared);
      await shared.current?.page.context().close();
    },
    { scope: 'worker' },
  ],
  page: async ({ browser, shared, account }, use, { file }) => {
    if (shared.current?.file !== file) {
      await shared.current?.page.context().close();
      shared.current = { file, page: await (await newContext(browser)).newPage() };
      if (account) {
        await signIn(shared.current.page, account);
        await expect(shared.current.page.getByRole('heading', { name: 'Overview' })).toBeVisible();
      }
    }
    await use(shared.current.page);
  },
  context: async ({ page }, use) => use(page.context()),
  newVisitor: async ({ browser }, use) => {
    const opened: BrowserContext[] = [];
    await use(async (options) => {
      const context = await newContext(browser, options);
      opened.push(context);
      return context.newPage();
    });
    for (const context of opened) await context.close();
  },
  noComplaints: [
    async ({}, use) => {
      await use();
      expect(complaints).toEqual([]);
    },
    { auto: true },
  ],
});

/** Asks the harness for something, and waits until it is done. */
export async function ask(what: string, value = ''): Promise<void> {
  // In one step, so that the harness reads all of it.
  writeFileSync(join(folder, `${what}.draft`), value);
  renameSync(join(folder, `${what}.draft`), join(folder, what));
  rmSync(join(folder, `${what}.done`), { force: true });
  await expect.poll(() => existsSync(join(folder, `${what}.done`)), { timeout: 60_000 }).toBe(true);
}

async function newContext(browser: Browser, options?: BrowserContextOptions): Promise<BrowserContext> {
  const context = await browser.newContext(options);
  context.on('page', watch);
  return context;
}
function watch(watched: Page): void {
  watched.on('pageerror', (error) => complaints.push(error.message));
  watched.on('console', (message) => {
    // A refused request is logged by the browser itself; the tests look at what the page makes of it.
    if (message.type() === 'error' && !/Failed to load resource/.test(message.text())) complaints.push(message.text());
  });
}

/** Ids of what `make_examples` made. */
export const ids = (): Record<string, string> => JSON.parse(readFileSync(join(folder, 'ids.json'), 'utf8')) as Record<string, string>;

export async function signIn(page: Page, email = EMAIL, password = PASSWORD): Promise<void> {
  await page.goto('/sign-in');
  await page.getByLabel('Email').fill(email);
  await page.getByLabel('Password', { exact: true }).fill(password);
  await page.getByRole('button', { name: 'Sign in', exact: true }).click();
}

/** The last code or token that the server sent to this address. */
export async function lastSecret(to: string, pattern: RegExp): Promise<string> {
  let found: string | undefined;
  await expect
    .poll(async () => {
      await ask('read_log');
      const mails = readFileSync(join(folder, 'server.log'), 'utf8').split(to).slice(1);
      found = mails.map((mail) => pattern.exec(mail)?.[0]).filter((secret) => secret !== undefined).at(-1);
      return found !== undefined;
    }, { timeout: 20_000 })
    .toBe(true);
  return found!;
}

/** Gives the password if the server asks for it. */
export async function confirmed(page: Page, seen: Locator, password = PASSWORD): Promise<void> {
  const dialog = page.getByRole('dialog', { name: 'Confirm that it is you' });
  await expect(seen.or(dialog).first()).toBeVisible();
  if (await dialog.isVisible()) {
    await dialog.getByLabel('Password').fill(password);
    await dialog.getByRole('button', { name: 'Confirm' }).click();
  }
  await expect(seen.first()).toBeVisible();
}

/** The library itself, without the builder for Playwright: that opens another page for each run, to put frames together
    that these pages do not have. */
const AXE = readFileSync(join(import.meta.dirname, '../node_modules/axe-core/axe.min.js'), 'utf8');
type Violations = { violations: { id: string; nodes: { html: string }[] }[] };

/** The names of what axe finds, with the elements. */
export async function violationsOf(page: Page, part = 'html'): Promise<string[]> {
  expect(page.frames(), 'a page has no frames').toHaveLength(1);
  const options = { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'], resultTypes: ['violations'], reporter: 'no-passes', preload: false };
  if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(AXE);
  const { violations } = await page.evaluate(([what, how]) => (window as unknown as { axe: { run: (what: unknown, how: unknown) => Promise<Violations> } }).axe.run(what, how), [{ include: [[part]] }, options] as const);
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html.slice(0, 160)).join(' | ')}`);
}

/** As if a person chose it in another tab. */
async function choose(page: Page, key: string, value: string): Promise<void> {
  await page.evaluate(([name, chosen]) => {
    localStorage.setItem(name, chosen);
    dispatchEvent(new StorageEvent('storage', { key: name, newValue: chosen }));
  }, [key, value] as const);
}
export const chooseLanguage = (page: Page, language: 'en' | 'de'): Promise<void> => choose(page, 'muster-language', language);

/** The screen is there, with its data. */
async function ready(page: Page): Promise<void> {
  await expect(page.getByRole('heading', { level: 1 }).first()).toBeAttached();
  await expect(page.getByRole('status').filter({ hasText: /^(Loading|Lädt)/ })).toHaveCount(0);
}

/** Opens the address in this theme and language, and waits until the screen has its data. */
export async function openScreen(page: Page, path: string, theme: 'light' | 'dark', language: 'en' | 'de'): Promise<void> {
  await choose(page, 'muster-theme', theme);
  await chooseLanguage(page, language);
  await page.goto(path);
  await ready(page);
}

/** The screen has no violation and does not scroll sideways. Takes its picture on request. */
export async function checkScreen(page: Page, name: string): Promise<void> {
  await ready(page);
  expect.soft(await violationsOf(page), name).toEqual([]);
  expect.soft(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth), `${name} scrolls sideways`).toBe(false);
  if (!process.env.MUSTER_SCREENSHOTS) return;
  mkdirSync(process.env.MUSTER_SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(process.env.MUSTER_SCREENSHOTS, `${name}.png`), fullPage: true });
}

type Look = readonly [theme: 'light' | 'dark', width: number, language: 'en' | 'de'];
export const TWO_LOOKS: readonly Look[] = [['light', 1440, 'en'], ['dark', 390, 'de']];
export const THREE_LOOKS: readonly Look[] = [['light', 1440, 'en'], ['dark', 1024, 'en'], ['dark', 390, 'de']];
export const FOUR_LOOKS: readonly Look[] = [['light', 1440, 'en'], ['dark', 1024, 'en'], ['light', 390, 'de'], ['dark', 390, 'de']];

/**
 * Opens each screen in the first of these looks, and checks it in all of them. It changes between them as it does when
 * a person chooses another theme or language, or turns a phone. `prepare` brings a screen to the state that is checked.
 */
export async function checkScreens(page: Page, screens: readonly (readonly [name: string, path: string])[], looks: readonly Look[], prepare?: (name: string) => Promise<void>): Promise<void> {
  for (const [name, path] of screens) {
    for (const [i, [theme, width, language]] of looks.entries()) {
      await page.setViewportSize({ width, height: 844 });
      if (i === 0) {
        await openScreen(page, path, theme, language);
        await prepare?.(name);
      } else {
        await choose(page, 'muster-theme', theme);
        await chooseLanguage(page, language);
      }
      await expect(page.locator(`html[lang=${language}][data-theme=${theme}]`)).toHaveCount(1);
      await checkScreen(page, `${name}-${width}-${theme}-${language}`);
    }
  }
  await chooseLanguage(page, 'en');
  await page.setViewportSize({ width: 1440, height: 900 });
}

/** Asks the API as the page does. */
export const send = (page: Page, method: string, path: string, body: unknown = undefined): Promise<{ id: string; items: { id: string; name: string }[] }> =>
  page.evaluate(([how, where, what]) => fetch(where!, { method: how!, ...(what ? { body: what, headers: { 'content-type': 'application/json' } } : {}) }).then(async (answer) => (answer.status === 204 ? undefined : ((await answer.json()) as never))), [method, path, body === undefined ? '' : JSON.stringify(body)] as const) as never;

/** What the app on the phone shows. */
export function codeAt(secret: string, step: number): string {
  const bits = [...secret].map((char) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(char).toString(2).padStart(5, '0')).join('');
  const key = Buffer.from(bits.match(/.{8}/g)!.map((byte) => parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(step));
  const mac = createHmac('sha1', key).update(counter).digest();
  return String((mac.readUInt32BE(mac.at(-1)! & 15) & 0x7fffffff) % 1_000_000).padStart(6, '0');
}
