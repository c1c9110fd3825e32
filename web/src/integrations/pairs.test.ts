import { expect, test } from 'vitest';
import { parsePairs, showPairs } from './pairs';

test('lines become pairs at the first sign, and back', () => {
  const pairs = parsePairs('REF=/after\n\n  X = 1=2\nbroken');
  expect(pairs).toEqual({ REF: '/after', X: ' 1=2', broken: '' });
  expect(parsePairs(showPairs({ A: '/b', C: 'd e' }))).toEqual({ A: '/b', C: 'd e' });
});
