// The dashboard over many simulated agents and one real one: `make soak-dashboard AGENTS=10000`. It needs the programs
// of `make build`, or MUSTER_PROGRAMS with their folder, and the pages of `make web`.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Site } from './site.mjs';

const web = new URL('..', import.meta.url).pathname;
const AGENTS = Number(process.env.AGENTS ?? 10_000);
const HALF = Math.floor(AGENTS / 2);
const BIG = "yes 'INFO request handled in 12 ms path=/api/items/123 status=200 size=4711 user=ada' | head -c 100000000\necho\necho needle-at-the-end\n";
const SCRIPTS = [{ name: 'hello', body: 'echo hello\n' }, { name: 'big', body: BIG }];

const folder = mkdtempSync(join(tmpdir(), 'muster-soak-dashboard-'));
const control = join(folder, 'control');
mkdirSync(control);
const site = await Site.start(folder);
let status = 1;
try {
  await site.setUp();
  await site.agent('real-1', { tags: ['real'], scripts: SCRIPTS });
  const parts = [['first-half', 0, HALF], ['second-half', HALF, AGENTS - HALF]];
  for (const [name, first, agents] of parts) {
    const round = await site.fleet(name, { agents, first, key: await site.fleetKey(name, agents, ['simulated', name]) });
    console.log(`${name}: ${round.live} agents connected in ${Math.round(round.elapsed_ms / 1_000)} s`);
    if (round.live !== agents) throw new Error(`${round.failed} agents did not connect:\n${site.log(name)}`);
  }
  const environment = { ...process.env, MUSTER_URL: site.url, MUSTER_CONTROL: control, MUSTER_RESULTS: join(folder, 'results'), MUSTER_AGENTS: String(AGENTS), CI: '1' };
  const browser = spawn(join(web, 'node_modules/.bin/playwright'), ['test', '--config', join(web, 'soak/playwright.config.ts'), ...process.argv.slice(2)], { stdio: 'inherit', env: environment });
  browser.on('exit', (code) => (status = code ?? 1));
  // The spec asks by a file, as in the tests.
  const asked = join(control, 'end_second_half');
  while (browser.exitCode === null && browser.signalCode === null) {
    if (existsSync(asked) && !existsSync(`${asked}.done`)) {
      await site.end('second-half');
      writeFileSync(`${asked}.done`, '');
    }
    await new Promise((next) => setTimeout(next, 100));
  }
} catch (error) {
  console.error(error, site.log('server').split('\n').slice(-20).join('\n'));
} finally {
  await site.stop();
  rmSync(folder, { recursive: true, force: true });
}
process.exit(status);
