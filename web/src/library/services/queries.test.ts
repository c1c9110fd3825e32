import { expect, test } from 'vitest';
import type { AssignedAgent } from '../assignments/queries';
import { actionsIn, byUrgency, healthOf, outcomeOf, shownState, stateOfAgent } from './queries';

const agent = (name: string, state: string, service?: string): AssignedAgent => ({ agent_id: name, agent_name: name, is_connected: true, state, skipped_count: 0, ...(service ? { service: { state: service, restart_count: 0 } } : {}) });

test('what the host does with the service decides, and before its first report what it does with the package', () => {
  expect(stateOfAgent(agent('a', 'failed', 'waiting'))).toBe('service_waiting');
  expect(stateOfAgent(agent('a', 'failed'))).toBe('failed');
  expect(stateOfAgent(agent('a', 'wanted'))).toBe('wanted');
  expect(stateOfAgent(agent('a', 'installed', 'stopped'))).toBe('service_stopped');
  // An update that failed leaves the version before it running.
  expect(stateOfAgent(agent('a', 'failed', 'running'))).toBe('running');
});

test('what needs a person comes first', () => {
  const agents = [agent('web-10', 'installed', 'running'), agent('web-2', 'installed', 'running'), agent('db', 'installed', 'backoff'), agent('x', 'failed'), agent('z', 'failed', 'waiting'), agent('y', 'installed', 'stopped')];
  expect(byUrgency(agents).map(({ agent_name }) => agent_name)).toEqual(['x', 'db', 'z', 'web-2', 'web-10', 'y']);
});

test('words of a newer server, or of a host, are never taken for known ones', () => {
  expect(shownState('exploding')).toBe('wanted');
  expect(healthOf({ health: 'constructor' })).toBeUndefined();
  expect(outcomeOf({ last_outcome: 'online' })).toBeUndefined();
  expect(outcomeOf({ last_outcome: 'lost' })).toBe('lost');
});

test('a stopped service is started, one that ended is restarted', () => {
  expect(actionsIn('service_stopped')).toEqual(['start']);
  expect(actionsIn('service_ended')).toEqual(['restart']);
  expect(actionsIn('backoff')).toEqual(['restart', 'stop']);
});
