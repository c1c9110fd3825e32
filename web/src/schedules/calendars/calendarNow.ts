/** Which entry of a calendar is in force at an instant, by the clocks of its zone. */
import type { Schemas } from '../../api/client';

type Entry = Schemas['EntrySpec'];
const DAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const;

interface Local {
  date: string;
  day: number;
  time: string;
}

// A formatter takes far longer to make than to use, and a week has hundreds of hours.
const formats = new Map<string, Intl.DateTimeFormat>();
function formatOf(zone: string): Intl.DateTimeFormat {
  const format = formats.get(zone) ?? new Intl.DateTimeFormat('en-CA', { timeZone: zone, hourCycle: 'h23', year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit' });
  formats.set(zone, format);
  return format;
}

function localOf(instant: number, zone: string): Local {
  const format = formatOf(zone);
  const part = Object.fromEntries(format.formatToParts(instant).map(({ type, value }) => [type, value]));
  const date = `${part.year}-${part.month}-${part.day}`;
  return { date, day: new Date(`${date}T00:00:00Z`).getUTCDay(), time: `${part.hour}:${part.minute}` };
}

export function isInForce(entry: Entry, zone: string, now: number): boolean {
  if (entry.starts_at && entry.ends_at) return Date.parse(entry.starts_at) <= now && now < Date.parse(entry.ends_at);
  const local = localOf(now, zone);
  if (entry.dates?.length) return entry.dates.includes(local.date);
  if (!entry.weekly) return false;
  const { days, from, until } = entry.weekly;
  const has = (day: number): boolean => days.includes(DAYS[(day + 7) % 7]!);
  if (until > from) return has(local.day) && from <= local.time && local.time < until;
  // It ends on the next day.
  return (has(local.day) && from <= local.time) || (has(local.day - 1) && local.time < until);
}

export type Held = 'freeze' | 'exclusion' | 'outside';

/** What the calendar holds back now: nothing, everything, or due times only. */
export function heldNow(calendar: Pick<Schemas['CalendarView'], 'entries' | 'time_zone'>, now: number): { held?: Held; entry?: Entry } {
  const inForce = calendar.entries.filter((entry) => isInForce(entry, calendar.time_zone, now));
  const freeze = inForce.find((entry) => entry.kind === 'freeze');
  if (freeze) return { held: 'freeze', entry: freeze };
  const windows = calendar.entries.filter((entry) => entry.kind === 'window');
  if (windows.length && !inForce.some((entry) => entry.kind === 'window')) return { held: 'outside', entry: windows[0] };
  const exclusion = inForce.find((entry) => entry.kind === 'exclusion');
  return exclusion ? { held: 'exclusion', entry: exclusion } : {};
}

const HOUR_MS = 3_600_000;

/**
 * The entry that holds something back between two instants: a freeze before an exclusion. Windows hold back most of
 * the time: `windowsBetween` has when they are open.
 */
export function heldBetween(calendar: Pick<Schemas['CalendarView'], 'entries' | 'time_zone'>, from: number, until: number): { held: 'freeze' | 'exclusion'; entry: Entry } | undefined {
  const hours = Array.from({ length: Math.ceil((until - from) / HOUR_MS) }, (_, i) => from + i * HOUR_MS);
  const isHeld = (entry: Entry): boolean =>
    entry.starts_at && entry.ends_at ? Date.parse(entry.starts_at) < until && from < Date.parse(entry.ends_at) : hours.some((at) => isInForce(entry, calendar.time_zone, at));
  for (const held of ['freeze', 'exclusion'] as const) {
    const entry = calendar.entries.find((item) => item.kind === held && isHeld(item));
    if (entry) return { held, entry };
  }
  return undefined;
}

const STEP_MS = 900_000;
const MINUTE_MS = 60_000;

/** When the windows of a calendar are open between two instants; undefined if it has none, and so holds nothing back. */
export function windowsBetween(calendar: Pick<Schemas['CalendarView'], 'entries' | 'time_zone'>, from: number, until: number): { from: number; until: number }[] | undefined {
  const windows = calendar.entries.filter((entry) => entry.kind === 'window');
  if (windows.length === 0) return undefined;
  const isOpen = (at: number): boolean => windows.some((entry) => isInForce(entry, calendar.time_zone, at));
  /** The first minute of a step in which it is open, or closed. */
  const edge = (after: number, before: number, wanted: boolean): number => {
    let [low, high] = [after, before];
    while (high - low > MINUTE_MS) {
      const middle = low + Math.floor((high - low) / 2 / MINUTE_MS) * MINUTE_MS;
      if (isOpen(middle) === wanted) high = middle;
      else low = middle;
    }
    return high;
  };
  const found: { from: number; until: number }[] = [];
  let start = isOpen(from) ? from : undefined;
  for (let at = from; at < until; at += STEP_MS) {
    const next = Math.min(at + STEP_MS, until);
    const isOpenNext = next < until ? isOpen(next) : start !== undefined;
    if (isOpenNext === (start !== undefined)) continue;
    const change = edge(at, next, isOpenNext);
    if (start === undefined) start = change;
    else {
      found.push({ from: start, until: change });
      start = undefined;
    }
  }
  return start === undefined ? found : [...found, { from: start, until }];
}
