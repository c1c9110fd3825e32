import { expect, test } from 'vitest';
import { de } from '../messages/de';
import { groupHaltFacts, jobHaltFacts } from './halts';

test('a halted job has its wave, its failures and its limit in German', () => {
  const job = { counts: { failed: 2, lost: 1, succeeded: 4 }, agent_count: 12, rollout: { wave: 2, wave_count: 4, asked: { max_failures: 2 } } } as unknown as Parameters<typeof jobHaltFacts>[0];
  expect(jobHaltFacts(job, de)).toBe('Angehalten in Welle 2 von 4. 3 von 12 sind nicht gelungen, erlaubt sind 2. Prüfen Sie die Agenten, und setzen Sie dann fort oder brechen Sie den Rest ab.');
  expect(jobHaltFacts({ ...job, counts: {} } as typeof job, de)).toContain('Angehalten in Welle 2 von 4. Prüfen');
});

test('a halted group has its wave and the agents that failed in German', () => {
  expect(groupHaltFacts({ wave: 1, max_failures: '10%', failed_count: 1, unreachable_count: 2 }, de)).toBe('Angehalten in Welle 1. 1 gescheitert, 2 nicht erreichbar, erlaubt sind 10%. Prüfen Sie die Agenten, und setzen Sie dann fort oder wählen Sie eine andere Version.');
});
