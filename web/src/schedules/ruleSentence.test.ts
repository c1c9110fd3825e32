import { expect, test } from 'vitest';
import { de } from '../messages/de';
import { en } from '../messages/en';
import { ruleSentence } from './ruleSentence';

const german = (rule: Parameters<typeof ruleSentence>[0]): string => ruleSentence(rule, 'the server’s', de.ruleWords);

test('rules of cron are German sentences', () => {
  for (const [cron, sentence] of [
    ['30 2 * * *', 'täglich um 02:30'],
    ['0 9 * * MON-FRI', 'montags bis freitags um 09:00'],
    ['0 2,14 * * *', 'täglich um 02:00 und 14:00'],
    ['0 9 * * mon,THU', 'jeden Montag und Donnerstag um 09:00'],
    ['5 9 * * 7', 'jeden Sonntag um 09:05'],
    ['*/15 * * * *', 'alle 15 Minuten'],
    ['* * * * *', 'jede Minute'],
    ['0 * * * *', 'jede Stunde'],
    ['0 */6 * * *', 'alle 6 Stunden'],
  ]) expect(german({ cron: cron!, time_zone: 'Europe/Berlin' }), cron).toBe(`${sentence}, Europe/Berlin`);
});

test('intervals and single times are German sentences', () => {
  expect(german({ every_ms: 7_200_000 })).toBe('alle 2 Stunden');
  expect(german({ every_ms: 90_000 })).toBe('alle 90 Sekunden');
  expect(german({ every_ms: 86_400_000 })).toBe('jeden Tag');
  expect(german({ at: '2026-11-24T12:00:00Z' })).toMatch(/^einmal, am 24\.11\.2026/);
});

test('what has no short sentence keeps the one of the server, and so does English', () => {
  for (const cron of ['*/7 * * * *', '0 6 L * *', '0 9 * * MON#1', '0 6 * DEC *', '7-59/13 3 * * *', '0 9 * * 8', '61 2 * * *', '@daily', '0 1,2,3,4,5 * * *', '*/5 * * * MON-FRI']) expect(german({ cron }), cron).toBe('the server’s');
  expect(ruleSentence({ cron: '30 2 * * *' }, 'every day at 02:30, UTC', en.ruleWords)).toBe('every day at 02:30, UTC');
});
