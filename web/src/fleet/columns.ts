/** The columns of the fleet. Name and state are always shown; the others are chosen, and the address has them. */
import type { Agent } from './queries';
import { factValues } from './target';

export const OPTIONAL = ['tags', 'os', 'version', 'last_seen_at', 'hostname', 'arch', 'ip', 'policy', 'transport', 'level', 'connected_at'] as const;
/** A column of the agent, or of a fact that its host reports: `fact:NAME`. */
export type Optional = (typeof OPTIONAL)[number] | `fact:${string}`;
export type Column = 'name' | 'status' | Optional;
/** The server reads so many facts at a time. */
export const MAX_FACTS = 8;
/** The fact that a column shows. */
export const factOf = (column: Column): string | undefined => (column.startsWith('fact:') ? column.slice(5) : undefined);
const isFact = (text: string): text is `fact:${string}` => /^fact:[A-Za-z0-9_][A-Za-z0-9._/-]{0,127}$/.test(text);
export const USUAL: readonly Optional[] = ['tags', 'os', 'version', 'last_seen_at'];

/** Tracks of the grid: they share what is left after the check box and the state. */
const WIDTHS: Record<(typeof OPTIONAL)[number], string> = { tags: 'minmax(0,1fr)', os: 'minmax(0,1.2fr)', version: '80px', last_seen_at: '110px', hostname: 'minmax(0,1fr)', arch: '88px', ip: '120px', policy: '88px', transport: '104px', level: '72px', connected_at: '110px' };
export const gridOf = (columns: readonly Optional[]): string => ['36px', 'minmax(0,1.4fr)', '104px', ...columns.map((column) => (column in WIDTHS ? WIDTHS[column as (typeof OPTIONAL)[number]] : 'minmax(0,1fr)'))].join(' ');

/** Columns in the order of the list, then facts in the order in which they were chosen. */
const ordered = (named: readonly string[]): Optional[] => [...OPTIONAL.filter((column) => named.includes(column)), ...[...new Set(named.filter(isFact))].slice(0, MAX_FACTS)];

/** Columns that an address names, in the order of the list. An address that names none has the usual ones. */
export function readColumns(text: string): readonly Optional[] {
  const named = text.split(',');
  const found = ordered(named);
  return found.length ? found : USUAL;
}

/** For the address: nothing if they are the usual ones. */
export function writeColumns(columns: readonly Optional[]): string | undefined {
  const found = ordered(columns);
  return found.length === 0 || found.join() === USUAL.join() ? undefined : found.join(',');
}

/** What a row is sorted by. */
export function textOf(agent: Agent, column: Column): string {
  const fact = factOf(column);
  if (fact !== undefined) return factValues(agent, fact).join(', ');
  return column === 'tags' ? agent.tags.join(' ') : (agent[column as 'name' | 'status' | (Exclude<(typeof OPTIONAL)[number], 'tags'>)] ?? '');
}
export const isTime = (column: Column): boolean => column === 'last_seen_at' || column === 'connected_at';
