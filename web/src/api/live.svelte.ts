import type { QueryClient } from '@tanstack/svelte-query';
import { events, type TenantEvent } from './events.svelte';

/** What a change makes stale. Screens name their queries by the resource first: `['agents', id]`. */
function stale(event: TenantEvent): unknown[][] {
  switch (event.kind) {
    case 'reset':
      return [['agents'], ['jobs'], ['executions'], ['approvals'], ['schedules'], ['agent-scripts'], ['agent-events']];
    case 'agent':
      return [['agents'], ['agent-events', event.id], ['agent-scripts', event.id]];
    case 'execution':
      return [['executions'], ...(event.job_id ? [['jobs', event.job_id]] : [])];
    case 'job':
      return [['jobs'], ['executions', { job_id: event.id }]];
    case 'approval':
      return [['approvals'], ['jobs']];
    case 'agent_refused':
      return [];
  }
}

/** Several events in quick succession make one request. */
const GATHER_MS = 150;

/** Reads data on the screen again when the server reports that it changed. */
export function keepCurrent(client: QueryClient): () => void {
  let waiting = new Map<string, unknown[]>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const flush = (): void => {
    timer = undefined;
    const keys = [...waiting.values()];
    waiting = new Map();
    for (const queryKey of keys) void client.invalidateQueries({ queryKey });
  };
  const unsubscribe = events.subscribe((event) => {
    for (const key of stale(event)) waiting.set(JSON.stringify(key), key);
    timer ??= setTimeout(flush, GATHER_MS);
  });
  return () => {
    clearTimeout(timer);
    unsubscribe();
  };
}
