import { expect, test } from 'vitest';
import { draftOf, fromField, ruleOf, toField } from './rule';

test('a stored rule is the same after it went through the form', () => {
  for (const rule of [{ cron: '*/5 * * * MON-FRI', time_zone: 'Europe/Berlin' }, { every_ms: 5_400_000 }, { every_ms: 172_800_000, anchor_at: '2026-01-01T00:00:00.000Z' }, { at: '2026-03-29T00:30:00.000Z' }]) {
    expect(ruleOf(draftOf(rule), rule)).toEqual(rule);
  }
});

test('an incomplete form has no rule', () => {
  expect(ruleOf({ ...draftOf(undefined), cron: ' ' })).toBeUndefined();
  expect(ruleOf({ ...draftOf(undefined), kind: 'every', every: '' })).toBeUndefined();
  expect(ruleOf({ ...draftOf(undefined), kind: 'at', at: '' })).toBeUndefined();
  expect(fromField(toField('2026-10-25T00:30:00.000Z'))).toBe('2026-10-25T00:30:00.000Z');
});
