import { expect, test } from 'vitest';
import { gridOf, readColumns, USUAL, writeColumns } from './columns';

test('an address names columns in any order, and what it does not know is left out', () => {
  expect(readColumns('ip,tags,nothing')).toEqual(['tags', 'ip']);
  expect(readColumns('')).toBe(USUAL);
  expect(readColumns('nothing')).toBe(USUAL);
});

test('the usual columns are not written, and no choice is lost on the way', () => {
  expect(writeColumns(['last_seen_at', 'version', 'os', 'tags'])).toBeUndefined();
  expect(writeColumns([])).toBeUndefined();
  expect(readColumns(writeColumns(['ip', 'arch'])!)).toEqual(['arch', 'ip']);
});

test('each column has a track', () => {
  expect(gridOf(['tags', 'ip']).split(' ')).toHaveLength(5);
});
