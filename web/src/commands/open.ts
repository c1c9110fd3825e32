/** Why work has not ended, in the language of the page. */
import type { Schemas } from '../api/client';
import type { Messages } from '../messages/en';
import { visible } from '../text/visible';

type OpenExecution = Pick<Schemas['ExecutionView'], 'open_reason' | 'agent_name' | 'agent_offline_since' | 'expires_at' | 'lost_at' | 'approval' | 'started_at' | 'timeout_ms' | 'cancel_requested_at' | 'wave' | 'attempt' | 'not_before' | 'lock' | 'lock_holder_id' | 'steps' | 'explanation' | 'agent_id'>;

/** The sentence about an execution; that of the server for a reason that this page does not know. */
export function openSentence(execution: OpenExecution, t: Messages): string | undefined {
  const sentence = execution.open_reason && (t.open as Partial<typeof t.open>)[execution.open_reason];
  if (!sentence) return execution.explanation ?? undefined;
  const steps = execution.steps ?? [];
  const running = steps.findIndex((step) => step.state === 'running');
  const started = execution.started_at ?? undefined;
  return sentence({
    agent: visible(execution.agent_name ?? execution.agent_id), since: execution.agent_offline_since ?? '', expires: execution.expires_at ?? '', lost: execution.lost_at ?? '', approvalUntil: execution.approval?.expires_at ?? '',
    startedAt: started, endsBy: started ? new Date(new Date(started).getTime() + execution.timeout_ms).toISOString() : '', requestedAt: execution.cancel_requested_at ?? '', wave: execution.wave ?? 0, attempt: execution.attempt, notBefore: execution.not_before ?? '',
    lock: visible(execution.lock ?? ''), holder: execution.lock_holder_id ?? '', step: running < 0 ? undefined : t.jobOpen.step(running + 1, steps.length, visible(steps[running]!.name ?? '')),
  });
}

/** The sentences about a job; nothing once it has ended. */
export function jobSentence(job: Pick<Schemas['JobView'], 'state' | 'counts' | 'approval' | 'explanation'>, t: Messages): string | undefined {
  if (!job.explanation) return undefined;
  const count = (state: keyof typeof job.counts): number => job.counts[state] ?? 0;
  const [queued, active] = [count('queued'), count('delivered') + count('running')];
  const all = Object.values(job.counts).reduce((sum, one) => sum + one, 0);
  const facts = { ended: all - queued - active, active, queued, approvalUntil: job.approval?.state === 'pending' ? job.approval.expires_at : undefined };
  if (job.state === 'awaiting_approval') return t.jobOpen.awaiting(facts);
  if (job.state === 'running') return `${t.jobOpen.progress(facts)} ${t.jobOpen.running}`;
  if (job.state === 'paused') return `${t.jobOpen.progress(facts)} ${t.jobOpen.paused}`;
  return job.explanation;
}
