import type { Schemas } from '../api/client';

export type Shape = 'span' | 'dates' | 'weekly';
export type Day = NonNullable<Schemas['EntrySpec']['weekly']>['days'][number];
export const DAYS: Day[] = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'];

/** An entry as the form has it. */
export interface EntryRow {
  kind: Schemas['EntryKind'];
  shape: Shape;
  starts: string;
  ends: string;
  dates: string;
  days: Day[];
  from: string;
  until: string;
  note: string;
}

export const emptyEntry = (): EntryRow => ({ kind: 'freeze', shape: 'span', starts: '', ends: '', dates: '', days: ['sat', 'sun'], from: '22:00', until: '04:00', note: '' });

const two = (value: number): string => String(value).padStart(2, '0');
/** An instant as a field of the browser has it, in the browser's zone. */
export function asLocal(instant: string | Date): string {
  const date = new Date(instant);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}T${two(date.getHours())}:${two(date.getMinutes())}`;
}

export const fromEntry = (entry: Schemas['EntrySpec']): EntryRow => ({
  ...emptyEntry(),
  kind: entry.kind,
  shape: entry.weekly ? 'weekly' : entry.dates?.length ? 'dates' : 'span',
  starts: entry.starts_at ? asLocal(entry.starts_at) : '',
  ends: entry.ends_at ? asLocal(entry.ends_at) : '',
  dates: (entry.dates ?? []).join(' '),
  ...(entry.weekly ? { days: [...entry.weekly.days], from: entry.weekly.from, until: entry.weekly.until } : {}),
  note: entry.note ?? '',
});

// Without a type of its own: `openapi-fetch` takes an entry without the fields that are null in the schema.
export const toEntry = (row: EntryRow) => {
  const shared = { kind: row.kind, ...(row.note ? { note: row.note } : {}) };
  switch (row.shape) {
    case 'span': return { ...shared, starts_at: new Date(row.starts).toISOString(), ends_at: new Date(row.ends).toISOString() };
    case 'dates': return { ...shared, dates: row.dates.split(/[\s,]+/).filter(Boolean) };
    case 'weekly': return { ...shared, weekly: { days: row.days, from: row.from, until: row.until } };
  }
};
