import { expect, test } from 'vitest';
import { readSteps, stepsOf } from '../steps/steps';
import { againAt, readParameters, readRetries, readRollout } from './again';

const query = (address: string): URLSearchParams => new URLSearchParams(address.slice('/run?'.length));

test('what ran is run again with its script, parameters, target and waves', () => {
  const again = query(againAt({ script: 'library:deploy@3', parameters: { VERSION: '1 & 2' }, target: { tags: ['web', 'eu'] }, rollout: { wave_size: '25%', max_failures: 2, pause_ms: 5_000 } }));
  expect(again.get('script')).toBe('library:deploy@3');
  expect(again.get('q')).toBe('tag:web & tag:eu');
  expect(readParameters(again.get('parameters'))).toEqual({ VERSION: '1 & 2' });
  expect(readRollout(again.get('rollout'))).toEqual({ wave_size: '25%', max_failures: 2, pause_ms: 5_000 });
});

test('a command runs again with the same words', () => {
  const again = query(againAt({ argv: ['echo', 'a b'], target: { ids: ['1', '2'] } }));
  expect([again.get('mode'), again.get('argv'), again.get('q')]).toEqual(['argv', 'echo "a b"', 'id:1 | id:2']);
});

test('many ids are kept in the tab, and never become another target', () => {
  const again = query(againAt({ script: 'x', target: { ids: Array.from({ length: 30 }, String) } }));
  expect(again.get('selection')).toBe('kept');
  expect(again.has('q')).toBe(false);
});

test('an address that was cut off has no parameters', () => {
  expect(readParameters('{"A":"1"')).toEqual({});
  expect(readParameters(null)).toEqual({});
  expect(readRollout('[1]')).toBeUndefined();
});

test('retries, lock and the size of the input go with it', () => {
  const again = query(againAt({ script: 'deploy', target: { tags: ['web'] }, retries: { count: 3, backoff_ms: 30_000 }, lock: 'apt', stdin_bytes: 12 }));
  expect(readRetries(again)).toEqual({ retries: '3', backoff: '30', lock: 'apt' });
  expect(again.get('input')).toBe('12');
  expect(readRetries(query(againAt({ script: 'deploy', target: { tags: ['web'] } })))).toEqual({ retries: '', backoff: '', lock: '' });
});

test('steps run again in their order, each with what it had', () => {
  const steps = [{ name: 'Stop', argv: ['systemctl', 'stop', 'a b'], timeout_ms: 30_000 }, { script: 'deploy', parameters: { VERSION: '1' } as never, secrets: ['TOKEN'], on_failure: 'continue' as const }];
  const again = query(againAt({ script: 'steps:(argv),deploy', steps, target: { tags: ['web'] } }));
  expect([again.get('mode'), again.has('script')]).toEqual(['steps', false]);
  expect(stepsOf(readSteps(again.get('steps')))).toEqual(steps);
});
