import type { QueryClient } from '@tanstack/svelte-query';
import type { Agent } from '../fleet/queries';
import { events, type TenantEvent } from './events.svelte';

/** What a change makes stale. Screens name their queries by the resource first: `['agents', id]`. */
function stale(event: TenantEvent): unknown[][] {
  switch (event.kind) {
    case 'reset':
      return [['agents'], ['jobs'], ['executions'], ['approvals'], ['schedules'], ['agent-scripts'], ['agent-events'], ['alerts'], ['fires'], ['trigger-states'], ['assignments'], ['audit-recent']];
    case 'agent':
      return [['agents', event.id], ['agents', 'preview'], ['agent-events', event.id], ['agent-scripts', event.id]];
    case 'execution':
      return [['executions'], ['trigger-states'], ...(event.job_id ? [['jobs', event.job_id]] : [])];
    case 'job':
      return [['jobs'], ['executions', { job_id: event.id }], ['fires'], ['audit-recent']];
    case 'approval':
      return [['approvals'], ['jobs'], ['audit-recent']];
    case 'alert':
    case 'alert_rule':
      return [['alerts']];
    case 'agent_refused':
      return [];
  }
}

/** Several events in quick succession make one request. */
const GATHER_MS = 150;

type AgentEvent = Extract<TenantEvent, { kind: 'agent' }>;

/**
 * Changes the list of all agents in place, which is long. True if the list then is up to date: an answer that is
 * on its way may be older than the event and would replace the change.
 */
function showStatus(client: QueryClient, event: AgentEvent): boolean {
  const isLoading = client.isFetching({ queryKey: ['agents', 'all'] }) > 0;
  const list = client.getQueryData<Agent[]>(['agents', 'all']);
  if (!list) return !isLoading;
  const at = list.findIndex((agent) => agent.id === event.id);
  if (at < 0) return false;
  const seen = event.status === 'online' ? { last_seen_at: new Date().toISOString() } : {};
  client.setQueryData(['agents', 'all'], list.with(at, { ...list[at]!, ...seen, status: event.status }));
  return !isLoading;
}

/** Reads data on the screen again when the server reports that it changed. */
export function keepCurrent(client: QueryClient, source: Pick<typeof events, 'subscribe'> = events): () => void {
  let waiting = new Map<string, unknown[]>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let isReading = false;
  let isStopped = false;
  // The next round starts after the one before ended: a busy fleet neither starves a request nor queues many.
  const flush = async (): Promise<void> => {
    timer = undefined;
    const keys = [...waiting.values()];
    waiting = new Map();
    isReading = true;
    await Promise.allSettled(keys.map((queryKey) => client.invalidateQueries({ queryKey })));
    isReading = false;
    plan();
  };
  const plan = (): void => {
    if (isStopped || isReading || waiting.size === 0) return;
    timer ??= setTimeout(() => void flush(), GATHER_MS);
  };
  const unsubscribe = source.subscribe((event) => {
    const keys = stale(event);
    if (event.kind === 'agent' && !showStatus(client, event)) keys.push(['agents', 'all']);
    for (const key of keys) waiting.set(JSON.stringify(key), key);
    plan();
  });
  return () => {
    isStopped = true;
    clearTimeout(timer);
    unsubscribe();
  };
}
