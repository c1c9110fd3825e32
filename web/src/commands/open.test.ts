import { expect, test } from 'vitest';
import { de } from '../messages/de';
import { en } from '../messages/en';
import { jobSentence, openSentence } from './open';

const execution = { agent_id: '1', agent_name: 'web-1', open_reason: 'agent_offline' as const, agent_offline_since: '2026-01-01T00:00:00.000Z', expires_at: '2026-01-02T00:00:00.000Z', attempt: 1, timeout_ms: 60_000, explanation: 'of the server' };

test('an execution says why it is open in each language, and repeats the server for an unknown reason', () => {
  expect(openSentence(execution, en)).toBe('web-1 is offline since 2026-01-01T00:00:00.000Z. It starts when the agent connects, and expires at 2026-01-02T00:00:00.000Z otherwise. Start the agent on its host, or cancel it.');
  expect(openSentence(execution, de)).toMatch(/^web-1 ist offline seit 2026-01-01T00:00:00\.000Z\./);
  const step = { name: 'Release', state: 'running' as const, on_failure: 'stop' as const, parameters: {}, secrets: [] };
  const running = { ...execution, open_reason: 'running' as const, started_at: '2026-01-01T00:00:00.000Z', steps: [{ ...step, state: 'succeeded' as const }, step] };
  expect(openSentence(running, en)).toContain('now step 2 of 2 (Release). The host ends it at 2026-01-01T00:01:00.000Z at the latest.');
  expect(openSentence({ ...execution, open_reason: 'later' as never }, de)).toBe('of the server');
  expect(openSentence({ ...execution, open_reason: null, explanation: null }, de)).toBeUndefined();
});

test('a job that has not ended counts its executions', () => {
  const job = { state: 'paused' as const, counts: { queued: 3, running: 1, delivered: 1, failed: 2 }, approval: null, explanation: 'of the server' };
  expect(jobSentence(job, en)).toBe('Executions: 2 ended, 2 on their hosts, 3 queued. A person paused it: no further execution starts until a person resumes it. Resume, abort or cancel it.');
  expect(jobSentence({ ...job, state: 'halted' }, de)).toBe('of the server');
  expect(jobSentence({ ...job, explanation: null }, de)).toBeUndefined();
});
