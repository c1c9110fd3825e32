/** The columns of the fleet. Name and state are always shown; the others are chosen, and the address has them. */
import type { Agent } from './queries';

export const OPTIONAL = ['tags', 'os', 'version', 'last_seen_at', 'hostname', 'arch', 'ip', 'policy', 'transport', 'level', 'connected_at'] as const;
export type Optional = (typeof OPTIONAL)[number];
export type Column = 'name' | 'status' | Optional;
export const USUAL: readonly Optional[] = ['tags', 'os', 'version', 'last_seen_at'];

/** Tracks of the grid: they share what is left after the check box and the state. */
const WIDTHS: Record<Optional, string> = { tags: 'minmax(0,1fr)', os: 'minmax(0,1.2fr)', version: '80px', last_seen_at: '110px', hostname: 'minmax(0,1fr)', arch: '88px', ip: '120px', policy: '88px', transport: '104px', level: '72px', connected_at: '110px' };
export const gridOf = (columns: readonly Optional[]): string => ['36px', 'minmax(0,1.4fr)', '104px', ...columns.map((column) => WIDTHS[column])].join(' ');

/** Columns that an address names, in the order of the list. An address that names none has the usual ones. */
export function readColumns(text: string): readonly Optional[] {
  const named = text.split(',');
  const found = OPTIONAL.filter((column) => named.includes(column));
  return found.length ? found : USUAL;
}

/** For the address: nothing if they are the usual ones. */
export function writeColumns(columns: readonly Optional[]): string | undefined {
  const ordered = OPTIONAL.filter((column) => columns.includes(column));
  return ordered.length === 0 || ordered.join() === USUAL.join() ? undefined : ordered.join(',');
}

/** What a row is sorted by. */
export const textOf = (agent: Agent, column: Column): string => (column === 'tags' ? agent.tags.join(' ') : (agent[column] ?? ''));
export const isTime = (column: Column): boolean => column === 'last_seen_at' || column === 'connected_at';
