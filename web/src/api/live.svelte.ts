import type { QueryClient } from '@tanstack/svelte-query';
import type { Agent } from '../fleet/queries';
import { events, type TenantEvent } from './events.svelte';

/** What a change makes stale. Screens name their queries by the resource first: `['agents', id]`. */
function stale(event: TenantEvent): unknown[][] {
  switch (event.kind) {
    case 'reset':
      return [['agents'], ['jobs'], ['executions'], ['approvals'], ['schedules'], ['agent-scripts'], ['agent-facts'], ['agent-events'], ['alerts'], ['fires'], ['trigger-states'], ['assignments'], ['services'], ['audit-recent']];
    case 'agent':
      return [['agents', event.id], ['agents', 'preview'], ['agent-events', event.id], ['agent-scripts', event.id], ['agent-facts', event.id]];
    case 'execution':
      // Runs of services are executions of packages.
      return [['executions'], ['trigger-states'], ...(event.script?.startsWith('package:') ? [['services']] : []), ...(event.job_id ? [['jobs', event.job_id]] : [])];
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
 * on its way may be older than the events and would replace the changes.
 */
function showStatus(client: QueryClient, changes: ReadonlyMap<string, AgentEvent['status']>): boolean {
  const isLoading = client.isFetching({ queryKey: ['agents', 'all'] }) > 0;
  const list = client.getQueryData<Agent[]>(['agents', 'all']);
  if (!list) return !isLoading;
  const now = new Date().toISOString();
  let found = 0;
  const next = list.map((agent) => {
    const status = changes.get(agent.id);
    if (status === undefined) return agent;
    found += 1;
    return { ...agent, ...(status === 'online' ? { last_seen_at: now } : {}), status };
  });
  client.setQueryData(['agents', 'all'], next);
  return found === changes.size && !isLoading;
}

/** Reads data on the screen again when the server reports that it changed. */
export function keepCurrent(client: QueryClient, source: Pick<typeof events, 'subscribe'> = events): () => void {
  let waiting = new Set<string>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  let changes = new Map<string, AgentEvent['status']>();
  let changeTimer: ReturnType<typeof setTimeout> | undefined;
  let isReading = false;
  let isStopped = false;
  // The next round starts after the one before ended: a busy fleet neither starves a request nor queues many.
  const flush = async (): Promise<void> => {
    timer = undefined;
    const names = waiting;
    waiting = new Set();
    isReading = true;
    // Few queries are on a screen, and a fleet that changes makes thousands of names stale: each query is looked at once.
    const isStale = ({ queryKey }: { queryKey: readonly unknown[] }): boolean => queryKey.some((_, i) => names.has(JSON.stringify(queryKey.slice(0, i + 1))));
    // A first read that is under way goes on, and its answer may be older than the events: it is read once more.
    const firstReads = client.getQueryCache().findAll({ predicate: isStale, fetchStatus: 'fetching' }).filter(({ state }) => state.data === undefined);
    await client.invalidateQueries({ predicate: isStale }).catch(() => undefined);
    if (firstReads.length > 0) await client.invalidateQueries({ predicate: (query) => firstReads.includes(query) }).catch(() => undefined);
    isReading = false;
    plan();
  };
  const plan = (): void => {
    if (isStopped || isReading || waiting.size === 0) return;
    timer ??= setTimeout(() => void flush(), GATHER_MS);
  };
  // The first change is shown at once; of a fleet that changes, many are shown together.
  const showChanges = (): void => {
    changeTimer = undefined;
    if (isStopped || changes.size === 0) return;
    const shown = changes;
    changes = new Map();
    if (!showStatus(client, shown)) {
      waiting.add(JSON.stringify(['agents', 'all']));
      plan();
    }
    changeTimer = setTimeout(showChanges, GATHER_MS);
  };
  const unsubscribe = source.subscribe((event) => {
    if (event.kind === 'agent') {
      changes.set(event.id, event.status);
      if (changeTimer === undefined) showChanges();
    }
    for (const key of stale(event)) waiting.add(JSON.stringify(key));
    plan();
  });
  return () => {
    isStopped = true;
    clearTimeout(timer);
    clearTimeout(changeTimer);
    unsubscribe();
  };
}
