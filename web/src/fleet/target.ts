/**
 * Target expressions, as docs/TARGETS.md describes them, over the agents that the browser already has. It
 * only filters what is shown: when something is run, the server decides who is matched.
 */
import type { Schemas } from '../api/client';
import type { Agent } from './queries';

export const FACTS = ['tag', 'name', 'hostname', 'os', 'version', 'arch', 'id', 'status', 'level', 'fact'] as const;
type Fact = (typeof FACTS)[number];
type Test = (agent: Agent) => boolean;

/** `fact:NAME=` or `fact:NAME!=`, before a value. */
const HOST_FACT = /^fact:([A-Za-z0-9_][A-Za-z0-9._/-]*)(!?=)/;

export class TargetError extends Error {
  readonly column: number;
  constructor(message: string, column: number) {
    super(message);
    this.column = column;
  }
}

interface Token {
  text: string;
  /** Quoted, so never a word such as `and`. */
  isValue: boolean;
  column: number;
}

const WORD = /fact:[A-Za-z0-9._/-]+!?=(?:[A-Za-z0-9._:/\-+@~*?]+|"(?:\\.|[^"\\])*")?|[A-Za-z0-9._:/\-+@~*?]+(?:"(?:\\.|[^"\\])*")?|"(?:\\.|[^"\\])*"|[!&|()]/y;

function tokens(text: string): Token[] {
  const found: Token[] = [];
  let at = 0;
  while (at < text.length) {
    if (/\s/.test(text[at]!)) {
      at += 1;
      continue;
    }
    WORD.lastIndex = at;
    const match = WORD.exec(text);
    if (!match) throw new TargetError(text[at]!, at + 1);
    found.push({ text: match[0], isValue: match[0].includes(':'), column: at + 1 });
    at += match[0].length;
  }
  return found;
}

/** Whether a person means an expression, and not plain words. */
export const isExpression = (text: string): boolean =>
  /(^|[\s(!&|])(tag|name|hostname|os|version|arch|id|status|level|fact):/.test(text) || /^\s*(all\s*$|[!(]|not\s)/.test(text);

/** @throws TargetError with the column, from 1. */
export function parse(text: string): Test {
  const all = tokens(text);
  let at = 0;
  const is = (...words: string[]): boolean => words.includes(all[at]?.text ?? '') && !all[at]!.isValue;
  const fail = (): never => {
    throw new TargetError(all[at]?.text ?? '', all[at]?.column ?? text.length + 1);
  };
  function either(): Test {
    let left = both();
    while (is('|', 'or')) {
      at += 1;
      const [first, second] = [left, both()];
      left = (agent) => first(agent) || second(agent);
    }
    return left;
  }
  function both(): Test {
    let left = one();
    while (is('&', 'and')) {
      at += 1;
      const [first, second] = [left, one()];
      left = (agent) => first(agent) && second(agent);
    }
    return left;
  }
  function one(): Test {
    if (is('!', 'not')) {
      at += 1;
      const inner = one();
      return (agent) => !inner(agent);
    }
    if (is('(')) {
      at += 1;
      const inner = either();
      if (!is(')')) fail();
      at += 1;
      return inner;
    }
    const token = all[at];
    if (!token || (!token.isValue && token.text !== 'all')) return fail();
    if (token.text === 'all') {
      at += 1;
      return () => true;
    }
    const colon = token.text.indexOf(':');
    const fact = token.text.slice(0, colon) as Fact;
    let value = token.text.slice(colon + 1);
    if (!FACTS.includes(fact)) fail();
    const host = HOST_FACT.exec(token.text);
    if (fact === 'fact' && !host) fail();
    if (host) value = token.text.slice(host[0].length);
    if (value === '') throw new TargetError('', token.column + token.text.length);
    if (value.startsWith('"')) value = value.slice(1, -1);
    at += 1;
    if (host) return hostFact(host[1]!, value, host[2] === '!=');
    return condition(fact as Exclude<Fact, 'fact'>, value);
  }
  const test = either();
  if (at < all.length) fail();
  return test;
}

function glob(value: string, flags = ''): RegExp {
  let source = '';
  for (let i = 0; i < value.length; i += 1) {
    const char = value[i]!;
    if (char === '\\' && i + 1 < value.length) source += value[(i += 1)]!.replace(/[^\w\s]/g, '\\$&');
    else if (char === '*') source += '.*';
    else if (char === '?') source += '.';
    else source += char.replace(/[^\w\s]/g, '\\$&');
  }
  return new RegExp(`^${source}$`, `s${flags}`);
}

/** @throws Error for an agent whose facts were not read: the answer is not known. */
function hostFact(name: string, value: string, isNegated: boolean): Test {
  const pattern = glob(value, 'i');
  return (agent) => {
    if (!agent.facts) throw new Error('the facts of the agent were not read');
    return factValues(agent, name).some((text) => pattern.test(text)) !== isNegated;
  };
}

/** The values of a fact that the host reports. */
export function factValues(agent: Agent, name: string): string[] {
  const value = agent.facts && Object.hasOwn(agent.facts, name) ? agent.facts[name] : undefined;
  return value === undefined ? [] : Array.isArray(value) ? value : [value];
}

/** Names of the facts of hosts that an expression uses, as far as it is written. */
export const factNamesIn = (text: string): string[] => [...new Set([...text.matchAll(/(?:^|[\s(!&|])fact:([A-Za-z0-9_][A-Za-z0-9._/-]*)!?=/g)].map((match) => match[1]!))].slice(0, 16);

function condition(fact: Exclude<Fact, 'fact'>, value: string): Test {
  switch (fact) {
    case 'tag': {
      const pattern = glob(value);
      return (agent) => agent.tags.some((tag) => pattern.test(tag));
    }
    case 'name':
    case 'version': {
      const pattern = glob(value);
      return (agent) => pattern.test(agent[fact]);
    }
    case 'hostname':
    case 'arch': {
      const pattern = glob(value, 'i');
      return (agent) => pattern.test(agent[fact]);
    }
    case 'os': {
      const start = glob(`${value}*`, 'i');
      const isLinux = /linux|debian|ubuntu|fedora|centos|red hat|rocky|alma|suse|arch|alpine|nixos|gentoo/i;
      const family: Record<string, RegExp> = { linux: isLinux, macos: /mac ?os|darwin/i, windows: /windows/i };
      const of = family[value.toLowerCase()];
      return (agent) => (of?.test(agent.os) ?? false) || start.test(agent.os);
    }
    case 'id':
      return (agent) => agent.id === value.toLowerCase();
    default: {
      const pattern = glob(value);
      return (agent) => pattern.test(agent[fact]);
    }
  }
}

/** Every word is part of something that the row shows. */
export function plainWords(text: string): Test {
  const wanted = text.toLowerCase().split(/\s+/).filter(Boolean);
  return (agent) => {
    const all = [agent.name, agent.hostname, agent.os, agent.ip, agent.version, agent.id, ...agent.tags].join('\n').toLowerCase();
    return wanted.every((word) => all.includes(word));
  };
}

/** What may follow: facts, or the values of the fact that is being written. */
export function completions(text: string, agents: readonly Agent[], factNames: readonly string[] = []): { insert: string; label: string }[] {
  const word = /[^\s!&|()]*$/.exec(text)![0];
  const before = text.slice(0, text.length - word.length);
  const [fact, start] = word.includes(':') ? [word.slice(0, word.indexOf(':')), word.slice(word.indexOf(':') + 1)] : [undefined, word];
  if (fact === undefined) {
    return FACTS.filter((name) => start !== '' && name.startsWith(start)).map((name) => ({ insert: `${before}${name}:`, label: `${name}:` }));
  }
  if (fact === 'fact' && !start.includes('=')) {
    return factNames.filter((name) => name.startsWith(start)).slice(0, 8).map((name) => ({ insert: `${before}fact:${name}=`, label: name }));
  }
  const values: Partial<Record<string, string[]>> = {
    tag: agents.flatMap((agent) => agent.tags),
    name: agents.map((agent) => agent.name),
    hostname: agents.map((agent) => agent.hostname),
    version: agents.map((agent) => agent.version),
    arch: agents.map((agent) => agent.arch),
    os: ['linux', 'macos', 'windows'],
    status: ['online', 'offline'],
    level: ['full', 'basic'],
  };
  const quote = (value: string): string => (/^[A-Za-z0-9._:/\-+@~]+$/.test(value) ? value : `"${value.replace(/["\\*?]/g, '\\$&')}"`);
  return [...new Set(values[fact] ?? [])]
    .filter((value) => value.startsWith(start) && value !== start)
    .sort()
    .slice(0, 8)
    .map((value) => ({ insert: `${before}${fact}:${quote(value)} `, label: value }));
}

/** A target as an expression. Tags match agents that have all of them. */
export const expressionOf = (spec: Schemas['TargetSpec'] | null | undefined): string =>
  spec?.expression ?? (spec?.tags?.length ? spec.tags.map((tag) => `tag:${tag}`).join(' & ') : (spec?.ids ?? []).map((agent) => `id:${agent}`).join(' | '));
