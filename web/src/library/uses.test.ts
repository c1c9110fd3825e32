import { expect, test } from 'vitest';
import { parseName } from './queries';
import { assignmentsOf, hrefOf, usesOf } from './uses';

test('schedules and hooks that run a script are found by its name, with any version', () => {
  const schedules = [{ id: '1', name: 'nightly', job: { script: 'library:disk@3' } }, { id: '2', name: 'other', job: { script: 'disk' } }, { id: '3', name: 'command', job: {} }, { id: '5', name: 'steps', job: { steps: [{ argv: ['true'] }, { script: 'library:disk@1' }] } }];
  const hooks = [{ id: '4', name: 'deploy', job: { script: 'library:disk' } }];
  const found = usesOf(schedules, hooks, (script) => parseName(script)?.name === 'disk');
  expect(found.map(hrefOf)).toEqual(['/schedules/1', '/schedules/5', '/settings/hooks/4']);
});

test('assignments of a script are found by its name, with any version', () => {
  const assignments = [{ id: '1', name: 'usage', kind: 'script', script: 'library:disk@3' }, { id: '2', name: 'other', kind: 'task', script: 'package:disk@3' }, { id: '3', name: 'proxy', kind: 'service', script: 'package:proxy@1' }];
  expect(assignmentsOf(assignments, (script) => parseName(script)?.name === 'disk').map(hrefOf)).toEqual(['/library/assignments/1']);
  expect(assignmentsOf(assignments, (script) => script === 'package:proxy@1').map(hrefOf)).toEqual(['/library/services/3']);
});
