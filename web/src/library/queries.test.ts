import { expect, test } from 'vitest';
import { expressionOf, nameInJobs, parseName } from './queries';

test('a name in a job tells the script and its version', () => {
  expect(parseName(nameInJobs('disk-report', 3))).toEqual({ name: 'disk-report', version: 3 });
  expect(parseName(nameInJobs('disk-report'))).toEqual({ name: 'disk-report' });
  expect(parseName('disk-report')).toBeUndefined();
  expect(parseName('library:a@x')).toBeUndefined();
});

test('a target of tags and ids is shown as an expression', () => {
  expect(expressionOf({ tags: ['web', 'eu'], ids: ['1'] })).toBe('tag:web | tag:eu | id:1');
  expect(expressionOf({ expression: 'tag:web & !name:x' })).toBe('tag:web & !name:x');
  expect(expressionOf(undefined)).toBe('');
});
