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

test('facts of hosts are columns, after those of the agent', () => {
  expect(readColumns('fact:role,ip,fact:<b>,fact:role')).toEqual(['ip', 'fact:role']);
  expect(readColumns(writeColumns(['fact:zone', 'ip', 'fact:role'])!)).toEqual(['ip', 'fact:zone', 'fact:role']);
  expect(gridOf(['fact:role']).split(' ')).toHaveLength(4);
});
