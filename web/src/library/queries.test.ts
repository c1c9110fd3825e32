import { expect, test } from 'vitest';
import { nameInJobs, parseName } from './queries';

test('a name in a job has the script and its version', () => {
  expect(parseName(nameInJobs('disk-report', 3))).toEqual({ name: 'disk-report', version: 3 });
  expect(parseName(nameInJobs('disk-report'))).toEqual({ name: 'disk-report' });
  expect(parseName('disk-report')).toBeUndefined();
  expect(parseName('library:a@x')).toBeUndefined();
});
