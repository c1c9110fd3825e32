import { expect, test } from 'vitest';
import type { Agent } from '../../fleet/queries';
import { type AssignedAgent, byUrgency, mayConcern, rolloutOf, stateOf } from './queries';

const agent = (name: string, state: string): AssignedAgent => ({ agent_id: name, agent_name: name, is_connected: true, state, skipped_count: 0 });

test('agents that failed come first, and names count as people do', () => {
  const shown = byUrgency([agent('web-10', 'installed'), agent('web-2', 'installed'), agent('db-1', 'failed'), agent('db-2', 'wanted'), agent('a', 'downloading')]);
  expect(shown.map((item) => item.agent_name)).toEqual(['db-1', 'a', 'db-2', 'web-2', 'web-10']);
});

test('a state that a newer server reports is shown as not known yet', () => {
  expect(stateOf(agent('a', 'paused'))).toBe('wanted');
});

test('an assignment concerns the agents of its target, and those of a target that only the server can read', () => {
  const web = { id: '1', name: 'web-1', tags: ['web'], hostname: 'h', os: 'linux', arch: 'x', version: '1', status: 'online', level: 'full' } as unknown as Agent;
  expect(mayConcern({ target: { tags: ['web'] } }, web)).toBe(true);
  expect(mayConcern({ target: { tags: ['web', 'eu'] } }, web)).toBe(false);
  expect(mayConcern({ target: { expression: 'tag:db | name:web-*' } }, web)).toBe(true);
  expect(mayConcern({ target: { expression: 'something:new' } }, web)).toBe(true);
});

test('a rollout has what a person gave, and none without a size', () => {
  expect(rolloutOf({ size: ' ', failures: '1', healthy: '5' })).toBeUndefined();
  expect(rolloutOf({ size: '10%', failures: '', healthy: '' })).toEqual({ wave_size: '10%' });
  expect(rolloutOf({ size: '2', failures: '0', healthy: '1.5' })).toEqual({ wave_size: 2, max_failures: 0, healthy_for_ms: 1500 });
});
