// A server with agents, for what shows the dashboard with real data. It needs the programs of `make build`, or
// MUSTER_PROGRAMS with their folder. The pages are those of web/dist: run `npm run build` first.
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { preview } from 'vite';

const web = new URL('..', import.meta.url).pathname;
const PATIENCE_MS = 60_000;
/** A debug build takes minutes to admit 10,000 agents. */
const FLEET_PATIENCE_MS = 600_000;
export const OWNER = { email: 'ada@example.com', name: 'Ada Lovelace', password: 'correct horse battery' };

/** Waits until `find` gives something, and returns it. */
export async function eventually(what, find, patienceMs = PATIENCE_MS) {
  const until = Date.now() + patienceMs;
  for (;;) {
    const found = await find();
    if (found) return found;
    if (Date.now() > until) throw new Error(`waited too long: ${what}`);
    await new Promise((next) => setTimeout(next, 100));
  }
}

const freePort = () =>
  new Promise((resolve, reject) => {
    const socket = createServer();
    socket.on('error', reject);
    socket.listen(0, '127.0.0.1', () => {
      const { port } = socket.address();
      socket.close(() => resolve(port));
    });
  });

export class Site {
  #processes = new Map();
  #pages;
  #server;
  #key;
  #folder;
  #programs;

  /** Starts a server with its data in `folder`, and a first owner. */
  static async start(folder) {
    const site = new Site();
    site.#folder = folder;
    site.#programs = process.env.MUSTER_PROGRAMS ?? join(web, '../target/debug');
    if (!existsSync(join(site.#programs, 'muster-server'))) throw new Error(`${site.#programs} has no muster-server: run \`make build\``);
    const data = join(folder, 'server');
    mkdirSync(data, { recursive: true });
    const [port, pages] = [await freePort(), await freePort()];
    site.#server = `http://127.0.0.1:${port}`;
    site.url = `http://localhost:${pages}`;
    site.setUpToken = await (async () => {
      site.#spawn('server', 'muster-server', ['serve', '--listen', `127.0.0.1:${port}`, '--data-dir', data], { MUSTER_PUBLIC_URL: site.url, MUSTER_REGISTRATION: 'open', MUSTER_DEMO_PRINT_CODES: 'true', MUSTER_STORAGE_MEASURE_EVERY_MS: '1000' });
      await eventually('the server answers', () => fetch(`${site.#server}/readyz`).then((answer) => answer.ok, () => false));
      return readFileSync(join(data, 'setup_token'), 'utf8').trim();
    })();
    site.#key = readFileSync(join(data, 'bootstrap_key'), 'utf8').trim();
    // The pages of this folder, with the policy that the server sends with its own.
    const page = await fetch(`${site.#server}/`, { headers: { accept: 'text/html' } });
    const policy = page.headers.get('content-security-policy') ?? '';
    site.#pages = await preview({ root: web, configFile: join(web, 'vite.config.ts'), logLevel: 'error', preview: { port: pages, strictPort: true, host: 'localhost', headers: { 'content-security-policy': policy }, proxy: { '^/(api|docs|install|openapi.json)': { target: site.#server, changeOrigin: false } } } });
    return site;
  }

  async setUp() {
    await this.call('POST', '/api/setup', OWNER, this.setUpToken);
    return this.signIn(OWNER.email, OWNER.password);
  }

  /** A token of the person, for `call`. */
  async signIn(email, password) {
    return (await this.call('POST', '/api/auth/login', { email, password }, '')).access_token;
  }

  /** Invites somebody, who accepts. Returns a token of this person. */
  async invite(owner, { email, name, role }) {
    const { token } = await this.call('POST', '/api/invitations', { email, role }, owner);
    await this.call('POST', '/api/invitations/accept', { name, password: OWNER.password }, token);
    return this.signIn(email, OWNER.password);
  }

  /** The answer of the API, as JSON. A body that is a Buffer is sent as it is. */
  async call(method, path, body, token = this.#key) {
    const isRaw = Buffer.isBuffer(body);
    const headers = { ...(token ? { authorization: `Bearer ${token}` } : {}), ...(body === undefined ? {} : { 'content-type': isRaw ? 'application/octet-stream' : 'application/json' }) };
    const answer = await fetch(this.#server + path, { method, headers, ...(body === undefined ? {} : { body: isRaw ? body : JSON.stringify(body) }) });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text ? JSON.parse(text) : undefined;
  }

  /** Starts an agent and returns its id once it has reported its scripts. */
  async agent(name, { tags = [], scripts = [], policy } = {}) {
    const permissions = ['ping', 'info', 'echo', 'scripts', 'execute', 'restart', 'update', 'redeploy', 'shutdown'];
    const key = await this.call('POST', '/api/agents/keys', { name, tags, permissions });
    const state = join(this.#folder, name);
    mkdirSync(join(state, 'scripts'), { recursive: true });
    for (const script of scripts) {
      const file = join(state, 'scripts', `${script.name}.sh`);
      writeFileSync(file, `#!/bin/sh\n${script.body}`);
      chmodSync(file, 0o755);
    }
    const entries = scripts.map(({ body: _, ...entry }) => ({ path: `${entry.name}.sh`, ...entry }));
    writeFileSync(join(state, 'script_manifest.json'), JSON.stringify({ scripts: entries }));
    if (policy) writeFileSync(join(state, 'policy.json'), JSON.stringify(policy));
    this.#spawn(name, 'muster-agent', ['run'], { MUSTER_SERVER_URL: this.#server, MUSTER_API_KEY: key.key, MUSTER_STATE_DIR: state });
    const id = await eventually(`${name} is online`, async () => {
      const { items } = await this.call('GET', '/api/agents?limit=500');
      const found = items.find((agent) => agent.key_id === key.id && agent.status === 'online' && agent.policy);
      return found && (await this.call('GET', `/api/agents/${found.id}/scripts`)).reported_at ? found.id : undefined;
    });
    await this.call('PATCH', `/api/agents/${id}`, { name });
    return id;
  }

  /** Simulated agents over real sockets, in a process of their own. Returns once all are connected. */
  async fleet(name, { agents, first = 0, key }) {
    const args = ['--address', new URL(this.#server).host, '--agents', String(agents), '--first', String(first)];
    this.#spawn(name, 'muster-fleet', args, { MUSTER_API_KEY: key }, 'pipe').stdin.write('connect\n');
    const round = await eventually(`${name} is connected`, async () => /\{"live".*\}/.exec(this.log(name))?.[0], FLEET_PATIENCE_MS);
    return JSON.parse(round);
  }

  /** A key that admits many agents. */
  async fleetKey(name, agents, tags = []) {
    return (await this.call('POST', '/api/agents/keys', { name, tags, max_agents: agents })).key;
  }

  #spawn(name, program, args, environment, input = 'ignore') {
    const started = spawn(join(this.#programs, program), args, { env: { PATH: process.env.PATH, HOME: this.#folder, ...environment }, stdio: [input, 'pipe', 'pipe'] });
    const entry = { process: started, log: '' };
    for (const stream of [started.stdout, started.stderr]) stream.on('data', (text) => (entry.log = (entry.log + text).slice(-200_000)));
    started.on('error', (error) => (entry.log += String(error)));
    this.#processes.set(name, entry);
    return started;
  }

  log(name) {
    return this.#processes.get(name)?.log ?? '';
  }

  /** Ends a process and waits for its end. */
  async end(name) {
    const { process: running } = this.#processes.get(name);
    if (running.exitCode !== null || running.signalCode !== null) return;
    const isOver = new Promise((resolve) => running.once('exit', resolve));
    running.kill('SIGTERM');
    await isOver;
  }

  async stop() {
    await this.#pages?.close();
    // Agents first: they sign off.
    for (const name of [...this.#processes.keys()].reverse()) await this.end(name);
  }
}
