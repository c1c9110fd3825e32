// What the specs share. The harness gives the address, the set-up token and a folder: a file in it asks for
// what only the harness can do.
import { expect, type Locator, type Page } from '@playwright/test';
import { createHmac } from 'node:crypto';
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const folder = process.env.MUSTER_CONTROL!;
export const EMAIL = 'ada@example.com';
export const PASSWORD = 'correct horse battery';

/** What the browser complained about: errors of scripts, and everything that the policy of the page refused. */
export const complaints: string[] = [];

/** Asks the harness for something, and waits until it is done. */
export async function ask(what: string, value = ''): Promise<void> {
  // In one step, so that the harness reads all of it.
  writeFileSync(join(folder, `${what}.draft`), value);
  renameSync(join(folder, `${what}.draft`), join(folder, what));
  rmSync(join(folder, `${what}.done`), { force: true });
  await expect.poll(() => existsSync(join(folder, `${what}.done`)), { timeout: 60_000 }).toBe(true);
}

export function watch(watched: Page): void {
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
  await page.getByRole('button', { name: 'Sign in' }).click();
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

/** What the app on the phone shows. */
export function codeAt(secret: string, step: number): string {
  const bits = [...secret].map((char) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(char).toString(2).padStart(5, '0')).join('');
  const key = Buffer.from(bits.match(/.{8}/g)!.map((byte) => parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(step));
  const mac = createHmac('sha1', key).update(counter).digest();
  return String((mac.readUInt32BE(mac.at(-1)! & 15) & 0x7fffffff) % 1_000_000).padStart(6, '0');
}
