/** Times and quantities in the words of a language. */
import { locale as chosen } from './locale.svelte';

const UNITS: [Intl.RelativeTimeFormatUnit, number][] = [
  ['day', 86_400],
  ['hour', 3_600],
  ['minute', 60],
  ['second', 1],
];

// A formatter takes far longer to make than to use, and a list has hundreds of times.
const formatters = new Map<string, unknown>();
function kept<T>(key: string, make: () => T): T {
  if (!formatters.has(key)) formatters.set(key, make());
  return formatters.get(key) as T;
}
const dates = (locale: string, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat =>
  kept(`${locale} ${options.dateStyle} ${options.timeStyle}`, () => new Intl.DateTimeFormat(locale, options));

export function relative(instant: number, now: number, locale: string): string {
  const seconds = Math.round((instant - now) / 1_000);
  const [unit, length] = UNITS.find(([, length]) => Math.abs(seconds) >= length) ?? ['second', 1];
  const numeric = Math.abs(seconds) < 1 ? 'auto' : 'always';
  return kept(`${locale} ${numeric}`, () => new Intl.RelativeTimeFormat(locale, { numeric, style: 'short' })).format(Math.trunc(seconds / length), unit);
}

export const absolute = (instant: number, locale: string): string =>
  dates(locale, { dateStyle: 'medium', timeStyle: 'medium' }).format(instant);

/** The time of day, with seconds. */
export const clockTime = (instant: number, locale: string): string =>
  kept(`${locale} clock`, () => new Intl.DateTimeFormat(locale, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' })).format(instant);

/** Without seconds, for sentences. */
export const moment = (instant: number, locale: string): string =>
  dates(locale, { dateStyle: 'medium', timeStyle: 'short' }).format(instant);

/** A sentence of the server, whose times become those of the person. */
export const withTimes = (text: string, locale: string): string =>
  text.replace(/\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g, (found) => absolute(new Date(found).getTime(), locale));

/** A number with one digit after its sign: `8.4`, in German `8,4`. */
const oneDigit = (value: number): string =>
  kept(`${chosen.current} one digit`, () => new Intl.NumberFormat(chosen.current, { minimumFractionDigits: 1, maximumFractionDigits: 1 })).format(value);

export function duration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${oneDigit(ms / 1_000)} s`;
  const seconds = Math.floor(ms / 1_000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return seconds % 60 ? `${minutes} min ${seconds % 60} s` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return hours % 24 ? `${Math.floor(hours / 24)} d ${hours % 24} h` : `${Math.floor(hours / 24)} d`;
}

export function bytes(count: number): string {
  if (count < 1_000) return `${count} B`;
  const units = ['kB', 'MB', 'GB', 'TB'];
  let value = count;
  let unit = -1;
  while (value >= 1_000 && unit < units.length - 1) {
    value /= 1_000;
    unit += 1;
  }
  return `${value < 10 ? oneDigit(value) : Math.round(value)} ${units[unit]}`;
}
