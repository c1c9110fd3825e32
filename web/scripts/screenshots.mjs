// Takes the pictures of docs/images, light and dark, of a real server with real agents: `npm run screenshots`.
// With MUSTER_LOOK=FOLDER it writes every screen in three widths and both themes there instead, for people who look
// at them; MUSTER_LANGUAGE=de shows them in German. Screens may be named: `npm run screenshots -- overview execution`.
import { chromium } from '@playwright/test';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fill, finish } from './examples.mjs';
import { OWNER, Site } from './site.mjs';

const images = new URL('../../docs/images', import.meta.url).pathname;
const look = process.env.MUSTER_LOOK;
const language = process.env.MUSTER_LANGUAGE ?? 'en';
const WIDTHS = look ? [1440, 1024, 390] : [1440];
const QUALITY = 82;
/** What the documentation shows. Charts of an agent need hours of measurements, so its picture is not taken here. */
const IN_DOCS = ['overview', 'job', 'execution', 'run', 'approval', 'schedule', 'package', 'step', 'service', 'certificates'];

const folder = mkdtempSync(join(tmpdir(), 'muster-screenshots-'));
const site = await Site.start(folder);
let browser;
try {
  const screens = await fill(site, folder);
  browser = await chromium.launch({ executablePath: process.env.MUSTER_CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', '--disable-dev-shm-usage'] });
  const context = await browser.newContext({ locale: 'en-US', timezoneId: 'Europe/Berlin', reducedMotion: 'reduce', viewport: { width: 1440, height: 900 } });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  await page.goto(`${site.url}/sign-in`);
  await page.getByLabel('Email').fill(OWNER.email);
  await page.getByLabel('Password', { exact: true }).fill(OWNER.password);
  await page.getByRole('button', { name: 'Sign in', exact: true }).click();
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
  const session = await context.newCDPSession(page);
  const wanted = process.argv.slice(2);
  mkdirSync(look ?? images, { recursive: true });
  for (const [name, path, isReady, prepare] of screens) {
    if (wanted.length ? !wanted.includes(name) : !look && !IN_DOCS.includes(name)) continue;
    await prepare?.(page);
    for (const theme of ['light', 'dark']) {
      for (const width of WIDTHS) {
        await page.setViewportSize({ width, height: width === 390 ? 844 : 900 });
        await page.evaluate(([chosen, spoken]) => {
          localStorage.setItem('muster-theme', chosen);
          localStorage.setItem('muster-language', spoken);
        }, [theme, language]);
        await page.goto(site.url + path);
        await page.getByRole('heading', { level: 1 }).waitFor();
        if (language === 'en') await isReady?.(page);
        // The page of components shows how loading looks.
        if (name !== 'components') await page.getByRole('status').filter({ hasText: /^(Loading|Lädt)/ }).first().waitFor({ state: 'detached' });
        await page.getByText('live', { exact: true }).waitFor();
        if (look) await page.screenshot({ path: join(look, `${name}-${width}-${theme}.png`), fullPage: true });
        else {
          const { data } = await session.send('Page.captureScreenshot', { format: 'webp', quality: QUALITY });
          writeFileSync(join(images, `dashboard-${name}-${theme}.webp`), Buffer.from(data, 'base64'));
        }
      }
    }
    console.log(name);
  }
} catch (error) {
  console.error(site.log('server').split('\n').slice(-20).join('\n'));
  throw error;
} finally {
  await browser?.close();
  await finish(site, folder).catch((error) => console.error(error));
  await site.stop();
  rmSync(folder, { recursive: true, force: true });
}
