import type { Schemas } from '../api/client';
import type { RuleUnit, RuleWords } from '../messages/en';

const UNITS: [RuleUnit, number][] = [['day', 86_400_000], ['hour', 3_600_000], ['minute', 60_000], ['second', 1_000]];
const DAYS = ['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT'];
const LISTED_TIMES = 4;

/** The rule as a sentence of this language, or the server's where it has no short one. */
export function ruleSentence(rule: Schemas['RuleSpec'], sentence: string, words: RuleWords | undefined): string {
  if (!words) return sentence;
  if (rule.every_ms) {
    const [unit, ms] = UNITS.find(([, ms]) => rule.every_ms! % ms === 0) ?? ['second', 1_000];
    return rhythm(rule.every_ms / ms, unit, words);
  }
  if (rule.at) return words.once(new Intl.DateTimeFormat(words.locale, { dateStyle: 'medium', timeStyle: 'short' }).format(new Date(rule.at)));
  const short = shortCron(rule.cron ?? '', words);
  return short ? `${short}, ${rule.time_zone ?? 'UTC'}` : sentence;
}

function rhythm(count: number, unit: RuleUnit, words: RuleWords): string {
  return words.every(count, unit, new Intl.NumberFormat(words.locale, { style: 'unit', unit, unitDisplay: 'long' }).format(count));
}

function shortCron(cron: string, words: RuleWords): string | undefined {
  const [minute, hour, day, month, weekday, ...more] = cron.trim().split(/\s+/);
  if (!minute || !hour || !weekday || more.length || day !== '*' || month !== '*') return undefined;
  if (weekday === '*' && hour === '*') {
    if (minute === '*') return rhythm(1, 'minute', words);
    if (minute === '0') return rhythm(1, 'hour', words);
    // `*/7` starts again with each hour, so it is no rhythm.
    const step = stepOf(minute, 60);
    return step ? rhythm(step, 'minute', words) : undefined;
  }
  const step = stepOf(hour, 24);
  if (weekday === '*' && minute === '0' && step) return rhythm(step, 'hour', words);
  const days = daysOf(weekday, words);
  const [hours, minutes] = [numbers(hour, 23), numbers(minute, 59)];
  if (!days || !hours || !minutes || hours.length * minutes.length > LISTED_TIMES) return undefined;
  const times = hours.flatMap((h) => minutes.map((m) => `${two(h)}:${two(m)}`));
  return words.at(days, list(times, words));
}

const two = (value: number): string => String(value).padStart(2, '0');
const list = (items: string[], words: RuleWords): string => new Intl.ListFormat(words.locale).format(items);
function stepOf(field: string, whole: number): number | undefined {
  const step = Number(/^\*\/(\d+)$/.exec(field)?.[1]);
  return step > 0 && whole % step === 0 ? step : undefined;
}
function numbers(field: string, max: number): number[] | undefined {
  if (!/^\d+(,\d+)*$/.test(field)) return undefined;
  const found = field.split(',').map(Number);
  return found.every((value) => value <= max) ? found : undefined;
}
function daysOf(field: string, words: RuleWords): string | undefined {
  if (field === '*') return words.everyDay;
  const digits = field.toUpperCase().replace(/[A-Z]{3}/g, (name) => (DAYS.includes(name) ? String(DAYS.indexOf(name)) : name));
  if (digits === '1-5') return words.onWorkdays;
  const days = numbers(digits, 7);
  // 2026-11-22 is a Sunday.
  const name = new Intl.DateTimeFormat(words.locale, { weekday: 'long', timeZone: 'UTC' });
  return days && words.on(list(days.map((day) => name.format(Date.UTC(2026, 10, 22 + (day % 7)))), words));
}
