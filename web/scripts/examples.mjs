// A fleet as a team has it: hosts, jobs of all kinds, schedules, scripts, packages, and what waits for a person.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually } from './site.mjs';

const LIBRARY = new URL('../../library', import.meta.url).pathname;
const HOSTS = [
  ['web-1', ['web', 'eu']], ['web-2', ['web', 'eu']], ['web-3', ['web', 'us']], ['web-4', ['web', 'us']],
  ['db-1', ['db', 'eu']], ['db-2', ['db', 'us']], ['cache-1', ['cache', 'eu']],
];
const ENDED = ['succeeded', 'failed', 'cancelled', 'aborted', 'halted'];

/** The scripts that a host allows. `goOn` is a file that ends the long one. */
function scriptsOf(name, goOn) {
  const blue = (text) => `\\033[34m${text}\\033[0m`;
  const green = (text) => `\\033[32m${text}\\033[0m`;
  const deploy = ['building', 'copying', 'migrating', 'restarting'].map((step) => `printf '${green('ok')}  ${step}\\n'`).join('\n');
  const cache = name === 'web-3' ? 'cold' : 'warm';
  const rows = `i=0\nwhile [ $i -lt 36 ]; do i=$((i+1)); printf '${blue('import')}  batch %03d  1,000 rows\\n' $i\n` + `case $i in 12|27) printf '\\033[33mwarn\\033[0m    batch %03d  2 rows have no address\\n' $i >&2;; esac\ndone\n`;
  return [
    { name: 'hello', body: `echo hello from ${name}\n`, description: 'Says hello' },
    { name: 'deploy', body: `${deploy}\necho "cache is ${cache}"\necho "released $VERSION"\n`, description: 'Releases a version of the shop', parameters: [{ name: 'VERSION', required: true, description: 'Such as 1.4.2' }] },
    { name: 'backup', body: name === 'db-2' ? "echo 'writing /backup/shop.dump'\necho 'No space left on device' >&2\nexit 3\n" : "echo 'writing /backup/shop.dump'\necho '4.2 GB in 38 s'\n", description: 'Writes a dump of the database' },
    { name: 'migrate', body: name === 'db-1' ? "echo 'checking the schema'\necho 'table orders is locked' >&2\nexit 1\n" : "echo 'checking the schema'\n", description: 'Changes the schema' },
    { name: 'import', body: `${rows}while [ ! -e '${goOn}' ]; do sleep 0.2; done\n`, description: 'Reads orders from the old shop', timeout_ms: 600_000 },
  ];
}

/** This site does not end TLS, so the answers of one that does take the place of its own. */
function certificates(agents) {
  const day = 86_400_000;
  const at = (days) => new Date(Date.now() + days * day).toISOString();
  const lives = { valid: [-3, 17, 27], due: [-22, -2, 8], expiring: [-26, -6, 4], expired: [-33, -13, -3], revoked: [-9, 11, 21] };
  const states = ['valid', 'valid', 'valid', 'due', 'expiring', 'expired', 'revoked'];
  const items = states.map((state, i) => ({ id: `01a20000-0000-7000-8000-00000000000${i}`, holder: 'agent', holder_id: agents[i], state, issued_at: at(lives[state][0]), renew_at: at(lives[state][1]), expires_at: at(lives[state][2]), revoked_at: state === 'revoked' ? at(-1) : null }));
  return async (page) => {
    await page.route('**/api/certificates?*', (route) => route.fulfill({ json: { items, next_cursor: null } }));
    await page.route('**/api/certificates/status', (route) => route.fulfill({ json: { required_of: 'agents', is_issuing: true, authority: 'Muster authority', authority_expires_at: at(3_640), server_expires_at: at(71), server_renew_at: at(41), rollover: 'none', valid_count: 3, due_count: 1, expiring_count: 1, expired_count: 1, revoked_count: 1 } }));
  };
}

/** Ends the script that still runs, and the services; call it before the site stops, because executions outlive their agent. */
export async function finish(site, folder) {
  writeFileSync(join(folder, 'go_on'), '');
  for (const { id } of (await site.call('GET', '/api/services')).items) await site.call('DELETE', `/api/assignments/${id}`);
  await eventually('everything ends', async () => (await site.call('GET', '/api/executions?state=running&limit=1')).items.length === 0);
}

/** Fills the server, and returns its screens: name, address, what to wait for, and what to do before. */
export async function fill(site, folder) {
  const owner = await site.setUp();
  const goOn = join(folder, 'go_on');
  const ids = new Map();
  for (const [name, tags] of HOSTS) ids.set(name, await site.agent(name, { tags, scripts: scriptsOf(name, goOn), policy: { allow: name === 'cache-1' ? 'manifest' : 'library', ...(name.startsWith('web') ? { files: { write: [join(folder, name, 'app')], read: [join(folder, name, 'app')] } } : {}) } }));
  const call = (method, path, body, token = owner) => site.call(method, path, body, token);
  const run = (body, token) => call('POST', '/api/jobs', body, token);
  const ended = (job) => eventually(`job ${job.id} ends`, async () => ENDED.includes((await call('GET', `/api/jobs/${job.id}`)).state));
  const on = (expression) => ({ target: { expression } });

  for (const [name, tag, about] of [['disk-report', 'disk', 'Shows how full the file systems are'], ['certificate-expiry', 'tls', 'Lists certificates that end soon'], ['service-restart', 'service', 'Restarts a service and waits until it runs']]) {
    const parameters = { 'disk-report': [{ name: 'THRESHOLD', type: 'integer', default: '90', help: 'Percentage from which a file system is full' }], 'service-restart': [{ name: 'SERVICE', required: true, pattern: '[a-z@.-]+' }] }[name] ?? [];
    await call('POST', '/api/scripts', { name, folder: 'ops', tags: [tag], description: about, interpreter: 'sh', body: readFileSync(join(LIBRARY, name, `${name}.sh`), 'utf8'), parameters, message: 'First version' });
  }
  const watch = await call('POST', '/api/scripts', { name: 'reboot-watch', folder: 'ops', tags: ['reboot'], description: 'Shows which hosts wait for a reboot', interpreter: 'python', has_trigger: true, body: 'import os\nimport platform\n\nMARK = "/var/run/reboot-required"\n\n\n# Main runs when a reboot became necessary since the call before.\ndef trigger(data):\n    was, data["waits"] = data.get("waits", False), os.path.exists(MARK)\n    return data["waits"] and not was\n\n\ndef main(data):\n    print(f"{platform.node()} waits for a reboot")\n    print(f"Kernel: {platform.release()}")\n', message: 'First version' });
  const pack = join(folder, 'package');
  mkdirSync(join(pack, 'bin'), { recursive: true });
  writeFileSync(join(pack, 'bin/run.sh'), 'echo "$DATABASE: 4.2 GB written"\n');
  for (const version of ['1.1.0', '1.2.0']) {
    writeFileSync(join(pack, 'muster.toml'), `name = "backup"\nversion = "${version}"\nkind = "job"\nexecutor = "sh"\nentry = "bin/run.sh"\nargv = ["--all"]\ntimeout_ms = 1800000\n\n[[parameters]]\nname = "DATABASE"\nrequired = true\npattern = "[a-z]+"\nhelp = "Which database is saved"\n`);
    const archive = execFileSync('tar', ['--zstd', '--sort=name', '--owner=0', '--group=0', '-cf', '-', 'muster.toml', 'bin'], { cwd: pack });
    await call('POST', '/api/packages', archive);
  }

  // A file that is pushed to hosts whose policy lists the folder, and one that another host does not give.
  mkdirSync(join(folder, 'web-1', 'app'));
  const conf = Buffer.from('listen 8080;\nworkers 4;\n');
  const sha256 = createHash('sha256').update(conf).digest('hex');
  const file = await call('POST', '/api/files', { name: 'app.conf', sha256, bytes: conf.length });
  await call('PUT', `/api/files/${file.id}/content?offset_bytes=0`, conf);
  await ended(await run({ target: { ids: [ids.get('web-1')] }, script: 'file:push', file: { path: join(folder, 'web-1', 'app', 'app.conf'), sha256, mode: '0640' } }));
  await ended(await run({ target: { ids: [ids.get('web-1'), ids.get('db-1')] }, script: 'file:pull', file: { path: join(folder, 'web-1', 'app', 'app.conf') } }));

  // A package that hosts run by themselves; one of them allows no packages of the server.
  writeFileSync(join(pack, 'muster.toml'), 'name = "rotate-logs"\nversion = "2.0.1"\nkind = "task"\nexecutor = "sh"\nentry = "bin/run.sh"\n\n[schedule]\ncron = "15 3 * * *"\ntime_zone = "Europe/Berlin"\n\n[[parameters]]\nname = "KEEP_DAYS"\nhelp = "How many days are kept"\n');
  await call('POST', '/api/packages', execFileSync('tar', ['--zstd', '--sort=name', '--owner=0', '--group=0', '-cf', '-', 'muster.toml', 'bin'], { cwd: pack }));
  const assignment = await call('POST', '/api/assignments', { name: 'log rotation', script: 'package:rotate-logs', target: { expression: 'tag:web | tag:cache' }, parameters: { KEEP_DAYS: '14' } });
  await eventually('hosts report the assignment', async () => (await call('GET', `/api/assignments/${assignment.id}/agents`)).items.every((item) => ['installed', 'failed'].includes(item.state)));

  // A program that hosts keep running; on one of them it ends again and again.
  writeFileSync(join(pack, 'bin/serve.sh'), 'case "$PWD" in */web-3/*) echo "cannot listen on port 8080" >&2; exit 1;; esac\ni=0\nwhile :; do i=$((i+1)); echo "serving, $i requests"; sleep 1; done\n');
  writeFileSync(join(pack, 'bin/health.sh'), 'exit 0\n');
  writeFileSync(join(pack, 'muster.toml'), 'name = "proxy"\nversion = "1.2.0"\nkind = "service"\nexecutor = "sh"\nentry = "bin/serve.sh"\n\n[service]\nrestart = "always"\n\n[service.health]\nentry = "bin/health.sh"\ninterval_ms = 1000\n');
  await call('POST', '/api/packages', execFileSync('tar', ['--zstd', '--sort=name', '--owner=0', '--group=0', '-cf', '-', 'muster.toml', 'bin'], { cwd: pack }));
  const service = await call('POST', '/api/assignments', { name: 'edge proxy', script: 'package:proxy', target: { expression: 'tag:web | name:cache-1' } });
  const hosts = async () => (await call('GET', `/api/assignments/${service.id}/agents`)).items;
  await eventually('the service runs', async () => (await hosts()).filter((item) => item.service?.state === 'running').length >= 3);

  // Several steps, of which one fails on one host.
  const steps = await run({ ...on('tag:db'), steps: [{ name: 'Check the disk', script: 'library:disk-report', parameters: { THRESHOLD: '100' } }, { name: 'Release', script: 'deploy', parameters: { VERSION: '1.4.2' }, timeout_ms: 600_000 }, { script: 'migrate', on_failure: 'continue' }, { name: 'Say hello', script: 'hello' }] });
  await ended(steps);
  const stepped = (await call('GET', `/api/jobs/${steps.id}/executions`)).items.find((item) => item.state === 'failed');

  await ended(await run({ ...on('tag:db & name:db-1'), script: 'package:backup', parameters: { DATABASE: 'shop' } }));
  const deploy = await run({ ...on('tag:web'), script: 'deploy', parameters: { VERSION: '1.4.2' } });
  await ended(deploy);
  await ended(await run({ ...on('tag:db'), script: 'backup', retries: { count: 1, backoff_ms: 100 }, lock: 'backup' }));
  await ended(await run({ ...on('tag:db'), script: 'migrate', rollout: { wave_size: 1, max_failures: 0 } }));
  await ended(await run({ ...on('tag:web | tag:db'), script: 'library:disk-report', parameters: { THRESHOLD: '100' } }));
  const live = await run({ ...on('name:web-2'), script: 'import' });
  const execution = await eventually('the import runs', async () => {
    const { items } = await call('GET', `/api/jobs/${live.id}/executions`);
    return items[0]?.state === 'running' ? items[0] : undefined;
  });

  await call('POST', '/api/approvals/rules', { name: 'production', target: 'tag:web', scripts: ['deploy'], max_agents: 1 }).catch(() => call('POST', '/api/approvals/rules', { name: 'production', target: 'tag:web', scripts: ['deploy'] }));
  const grace = await site.invite(owner, { email: 'grace@example.com', name: 'Grace Hopper', role: 'member' });
  await run({ ...on('tag:web'), script: 'deploy', parameters: { VERSION: '1.5.0' }, retries: { count: 2, backoff_ms: 30_000 }, lock: 'deploy' }, grace);
  const approval = (await call('GET', '/api/approvals?state=pending')).items[0];

  const zone = { time_zone: 'Europe/Berlin' };
  const nightly = await call('POST', '/api/schedules', { name: 'nightly backup', rule: { cron: '30 2 * * *', ...zone }, job: { ...on('tag:db'), script: 'package:backup', parameters: { DATABASE: 'shop' }, retries: { count: 3, backoff_ms: 60_000 }, lock: 'backup' } });
  await call('POST', '/api/schedules', { name: 'certificates', rule: { cron: '0 9 * * MON', ...zone }, job: { ...on('tag:web'), script: 'library:certificate-expiry' } });
  await call('POST', '/api/schedules', { name: 'disk report', rule: { every_ms: 21_600_000 }, job: { ...on('all'), script: 'library:disk-report' } });
  await site.end('cache-1');
  await eventually('cache-1 is offline', async () => (await call('GET', `/api/agents/${ids.get('cache-1')}`)).status === 'offline');

  const from = new Date(Date.now() + 86_400_000).toISOString();
  const until = new Date(Date.now() + 3 * 86_400_000).toISOString();
  await call('POST', '/api/calendars', { name: 'winter sale', time_zone: 'Europe/Berlin', entries: [{ kind: 'freeze', starts_at: from, ends_at: until, note: 'no changes to the shop' }] });
  await call('POST', '/api/calendars', { name: 'maintenance nights', time_zone: 'Europe/Berlin', entries: [{ kind: 'window', weekly: { days: ['tue', 'thu', 'fri'], from: '22:00', until: '04:00' } }], schedule_ids: [nightly.id] });
  const failed = (await call('GET', '/api/executions?state=failed&script=migrate')).items[0];

  /** The list of agents as it is not here. */
  const agentsAre = (change) => async (page) => {
    await page.unrouteAll({ behavior: 'ignoreErrors' });
    await page.route('**/api/agents?*', async (route) => (change ? route.fulfill({ json: { items: change((await (await route.fetch()).json()).items), next_cursor: null } }) : route.abort('connectionrefused')));
  };
  const text = (wanted) => (page) => page.getByText(wanted).first().waitFor();
  return [
    ['overview', '/', text('Needs you')],
    ['fleet', '/fleet', text('cache-1')],
    ['job', `/jobs/${deploy.id}`, text('cache is cold')],
    ['execution', `/executions/${execution.id}`, text('batch 036')],
    ['agent', `/fleet/${ids.get('web-1')}`, text('Recent executions')],
    ['run', `/run?${new URLSearchParams({ q: 'tag:web', script: 'deploy', parameters: JSON.stringify({ VERSION: '1.5.0' }), waves: '2', failures: '0', retries: '2', backoff: '30', lock: 'deploy', how: '1' })}`, text('Runs deploy on')],
    ['approval', `/approvals/${approval.id}`, text('Data, SHA-256')],
    ['schedule', `/schedules/${nightly.id}/edit`, text('every day at 02:30')],
    ['steps', `/jobs/${steps.id}`, text('Check the disk')],
    ['step', `/executions/${stepped.id}?step=3`, text('Output of step 3')],
    ['run-steps', `/run?${new URLSearchParams({ q: 'tag:db', mode: 'steps', steps: JSON.stringify([{ name: 'Check the disk', script: 'library:disk-report' }, { name: 'Release', script: 'deploy', parameters: { VERSION: '1.5.0' }, secrets: [], timeout_ms: 600_000 }, { script: 'hello', on_failure: 'continue' }]), offline: 'skip', how: '1' })}`, text('Runs 3 steps')],
    ['services', '/library/services', text('edge proxy')],
    ['service', `/library/services/${service.id}`, text('web-1')],
    ['agent-services', `/fleet/${ids.get('web-1')}?tab=services`, text('edge proxy')],
    ['service-package', '/library/packages/proxy', text('Assignments of this version')],
    ['certificates', '/settings/certificates', text('Who needs a certificate'), certificates([...ids.values()])],
    ['files', '/library/files', text('app.conf')],
    ['agent-files', `/fleet/${ids.get('web-1')}?tab=files`, text('app.conf')],
    ['run-file', `/run?${new URLSearchParams({ q: 'tag:web', mode: 'file', file: 'push', path: '/srv/app/app.conf', sha256, permissions: '0640' })}`, text('is uploaded')],
    ['pulled', `/executions/${(await call('GET', '/api/executions?script=file:pull&state=succeeded')).items[0].id}`, text('Download the file')],
    ['library', '/library', text('disk-report')],
    ['package', '/library/packages/backup', text('Description in muster.toml')],
    ['assignments', '/library/assignments', text('log rotation')],
    ['assignment', `/library/assignments/${assignment.id}`, text('Recent runs of the package')],
    ['assignment-new', '/library/assignments/new?script=package:rotate-logs@2.0.1&q=tag:web', text('Hosts of the target')],
    ['agent-assignments', `/fleet/${ids.get('web-1')}?tab=assignments`, text('log rotation')],
    ['task', '/library/packages/rotate-logs', text('Assignments of this version')],
    ['failed', `/executions/${failed.id}`, text('Retry on')],
    ['calendar', '/schedules?view=calendar', text('nightly backup')],
    ['schedules', '/schedules', text('nightly backup')],
    ['history', '/history', text('import')],
    ['jobs', '/jobs', text('import')],
    ['audit', '/audit', text('job.submit')],
    ['updates', '/updates', text('Versions in the fleet')],
    ['members', '/settings', text('Grace Hopper')],
    ['account', '/settings/account', text('Second factor')],
    ['fleet-columns', '/fleet?columns=arch,ip,policy,transport,hostname', text('cache-1')],
    ['script-parts', `/library/${watch.id}`, text('Side by side')],
    ['script-edit', `/library/${watch.id}/edit`, (page) => page.getByRole('button', { name: 'Try on one host…' }).click()],
    ['execution-times', `/executions/${execution.id}?times=1`, text('batch 036')],
    ['plan', '/settings/plan', text('Plan')],
    ['storage', '/settings/storage', text('Output')],
    ['components', '/ui', text('Components')],
    ['fleet-long', '/fleet', text('web-1'), agentsAre((items) => items.map((item, i) => (i % 3 === 0 ? { ...item, name: 'web-1-'.padEnd(200, 'long-name-') } : item)))],
    ['run-long', '/run?q=all&script=hello', text('web-1')],
    ['fleet-none', '/fleet', text('No agents yet'), agentsAre(() => [])],
    ['overview-none', '/', text('Welcome to Muster')],
    ['fleet-unreachable', '/fleet', (page) => page.getByRole('alert').first().waitFor(), agentsAre()],
  ];
}
