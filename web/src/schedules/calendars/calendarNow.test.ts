import { expect, test } from 'vitest';
import { heldBetween, heldNow, isInForce, windowsBetween } from './calendarNow';

const at = (text: string): number => Date.parse(text);

test('a weekly span over midnight goes by the clocks of its zone', () => {
  const entry = { kind: 'window', weekly: { days: ['sat'], from: '22:00', until: '04:00' } } as const;
  const is = (instant: string): boolean => isInForce({ ...entry, weekly: { ...entry.weekly, days: ['sat'] } }, 'Europe/Berlin', at(instant));
  expect(is('2026-11-28T20:59:00Z')).toBe(false);
  expect(is('2026-11-28T21:00:00Z')).toBe(true);
  expect(is('2026-11-29T02:59:00Z')).toBe(true);
  expect(is('2026-11-29T03:00:00Z')).toBe(false);
  expect(is('2026-11-28T02:00:00Z')).toBe(false);
});

test('a freeze holds everything, an exclusion due times, a window what is outside of it', () => {
  const freeze = { kind: 'freeze', starts_at: '2026-11-27T00:00:00Z', ends_at: '2026-11-30T00:00:00Z' } as const;
  const day = { kind: 'exclusion' as const, dates: ['2026-12-25'] };
  const window = { kind: 'window' as const, weekly: { days: ['mon' as const], from: '08:00', until: '10:00' } };
  const zone = { time_zone: 'UTC' };
  expect(heldNow({ ...zone, entries: [day, freeze] }, at('2026-11-27T00:00:00Z')).held).toBe('freeze');
  expect(heldNow({ ...zone, entries: [day, freeze] }, at('2026-11-30T00:00:00Z')).held).toBeUndefined();
  expect(heldNow({ ...zone, entries: [day] }, at('2026-12-25T23:59:00Z')).held).toBe('exclusion');
  expect(heldNow({ ...zone, entries: [window] }, at('2026-11-23T09:00:00Z')).held).toBeUndefined();
  expect(heldNow({ ...zone, entries: [window] }, at('2026-11-23T10:00:00Z')).held).toBe('outside');
});

test('a day is held if a freeze overlaps it, however short, or an exclusion is in force in it', () => {
  const day = [at('2026-12-24T23:00:00Z'), at('2026-12-25T23:00:00Z')] as const;
  const freeze = { kind: 'freeze', starts_at: '2026-12-25T10:10:00Z', ends_at: '2026-12-25T10:20:00Z' } as const;
  const christmas = { kind: 'exclusion', dates: ['2026-12-25'] } as const;
  const nights = { kind: 'window', weekly: { days: ['sat'], from: '22:00', until: '04:00' } } as const;
  expect(heldBetween({ time_zone: 'Europe/Berlin', entries: [nights, christmas, freeze] } as never, ...day)?.held).toBe('freeze');
  expect(heldBetween({ time_zone: 'Europe/Berlin', entries: [nights, christmas] } as never, ...day)?.held).toBe('exclusion');
  expect(heldBetween({ time_zone: 'Europe/Berlin', entries: [nights] } as never, ...day)).toBeUndefined();
  expect(heldBetween({ time_zone: 'Europe/Berlin', entries: [christmas, freeze] } as never, at('2026-12-25T23:00:00Z'), at('2026-12-26T23:00:00Z'))).toBeUndefined();
});

test('a day has the spans in which windows are open, to the minute and by the clocks of the zone', () => {
  const nights = { kind: 'window', weekly: { days: ['sat'], from: '22:10', until: '04:00' } } as const;
  const noon = { kind: 'window', weekly: { days: ['sat'], from: '12:00', until: '12:20' } } as const;
  const day = (text: string): readonly [number, number] => [at(`${text}T23:00:00Z`), at(`${text}T23:00:00Z`) + 86_400_000];
  const spans = (entries: unknown[], [from, until]: readonly [number, number]): string[] | undefined =>
    windowsBetween({ time_zone: 'Europe/Berlin', entries } as never, from, until)?.map((span) => `${new Date(span.from).toISOString().slice(8, 16)} ${new Date(span.until).toISOString().slice(8, 16)}`);
  expect(spans([nights, noon], day('2026-11-27'))).toEqual(['28T11:00 28T11:20', '28T21:10 28T23:00']);
  expect(spans([nights, noon], day('2026-11-28'))).toEqual(['28T23:00 29T03:00']);
  expect(spans([nights, noon], day('2026-11-24'))).toEqual([]);
  expect(spans([{ kind: 'freeze', dates: ['2026-11-28'] }], day('2026-11-27'))).toBeUndefined();
  expect(spans([{ kind: 'window', dates: ['2026-11-28'] }], day('2026-11-27'))).toEqual(['27T23:00 28T23:00']);
});
