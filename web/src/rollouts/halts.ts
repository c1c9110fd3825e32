/** What is known of halted work besides the server's sentence. */
import type { Schemas } from '../api/client';
import type { Messages } from '../messages/en';
import { UNSUCCESSFUL } from '../components/states';

export function jobHaltFacts(job: Pick<Schemas['JobView'], 'counts' | 'agent_count' | 'rollout'>, t: Messages): string {
  const failed = UNSUCCESSFUL.reduce((sum, state) => sum + (job.counts[state] ?? 0), 0);
  return t.halts.job(job.rollout?.wave, job.rollout?.wave_count, failed, job.agent_count, job.rollout?.asked.max_failures?.toString());
}

export const groupHaltFacts = (group: { wave: number; max_failures: number | string; failed_count?: number; unreachable_count?: number }, t: Messages): string =>
  t.halts.group(group.wave, group.failed_count, group.unreachable_count, String(group.max_failures));
