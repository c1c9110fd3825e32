import { expect, test } from 'vitest';
import { type Alert, asMinutes, byRule, fromMinutes, openFirst, readNumber, showValue } from './conditions';

test('a value has the unit and the digits of its metric', () => {
  expect(showValue('disk_percent', 93.456, 'en')).toBe('93.5 %');
  expect(showValue('disk_percent', 93.456, 'de')).toBe('93,5 %');
  expect(showValue('load_1m', 4.256, 'en')).toBe('4.26');
  expect(showValue('agents_online', 0, 'en')).toBe('0');
  expect(showValue('agents_online', 1200, 'en')).toBe('1,200');
});

test('a number is read with a point or a comma, and anything else is none', () => {
  expect(readNumber(' 90.5 ')).toBe(90.5);
  expect(readNumber('90,5')).toBe(90.5);
  for (const text of ['', '-1', '1e3', 'Infinity', '0x10', '1.', '1.2.3', 'ten']) expect(readNumber(text), text).toBeUndefined();
});

test('minutes are read as they are shown', () => {
  for (const ms of [0, 1_000, 90_000, 300_000, 86_400_000]) expect(fromMinutes(asMinutes(ms))).toBe(ms);
  expect(fromMinutes('0.5')).toBe(30_000);
  expect(fromMinutes('')).toBeUndefined();
});

const alert = (id: string, rule: string, opened: string): Alert => ({ id, rule_id: rule, rule_name: `rule ${rule}`, metric: 'disk_percent', threshold: 90, value: 95, opened_at: opened });

test('open alerts of a rule are one entry, since the first of them', () => {
  const found = byRule([alert('3', 'a', '2026-01-03T00:00:00Z'), alert('2', 'b', '2026-01-02T00:00:00Z'), alert('1', 'a', '2026-01-01T00:00:00Z')]);
  expect(found.map(({ ruleId, since, alerts }) => [ruleId, since, alerts.map(({ id }) => id)])).toEqual([
    ['a', '2026-01-01T00:00:00Z', ['3', '1']],
    ['b', '2026-01-02T00:00:00Z', ['2']],
  ]);
  expect(byRule([])).toEqual([]);
});

test('an alert that is resolved while its page reads both lists is shown once', () => {
  const [first, second] = [alert('1', 'a', '2026-01-01T00:00:00Z'), alert('2', 'a', '2026-01-02T00:00:00Z')];
  const ended = { ...first, resolved_at: '2026-01-03T00:00:00Z' };
  expect(openFirst([second, first], [ended])).toEqual([second, ended]);
  expect(openFirst([], [])).toEqual([]);
});
