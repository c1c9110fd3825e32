import { expect, test } from 'vitest';
import { byName, type Package, packageInJobs, packageOf, parsePackage } from './queries';

const all = [['backup', '1.2.0'], ['scan', '7'], ['backup', '1.10.0']].map(([name, version]) => ({ name, version }) as Package);

test('a name in a job has the package and its version', () => {
  expect(parsePackage(packageInJobs('backup', '1.2.0+b-1'))).toEqual({ name: 'backup', version: '1.2.0+b-1' });
  expect(parsePackage(packageInJobs('backup'))).toEqual({ name: 'backup' });
  for (const other of ['backup', 'library:backup', 'package:', 'package:a@', 'package:a@1@2']) expect(parsePackage(other), other).toBeUndefined();
});

test('packages are listed by name, and the version that was uploaded last is the newest', () => {
  expect(byName(all).map(({ name, newest, versions }) => [name, newest.version, versions.length])).toEqual([['backup', '1.2.0', 2], ['scan', '7', 1]]);
});

test('a job without a version runs the package that was uploaded last', () => {
  expect(packageOf(all, 'package:backup')?.version).toBe('1.2.0');
  expect(packageOf(all, 'package:backup@1.10.0')?.version).toBe('1.10.0');
  expect(packageOf(all, 'package:backup@2')).toBeUndefined();
  expect(packageOf(all, 'backup')).toBeUndefined();
});
