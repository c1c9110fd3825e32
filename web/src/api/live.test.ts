import { QueryClient, QueryObserver } from '@tanstack/svelte-query';
import { afterEach, expect, test, vi } from 'vitest';
import type { TenantEvent } from './events.svelte';
import { keepCurrent } from './live.svelte';

afterEach(() => vi.useRealTimers());

/** A list of one agent whose reads end when the test says so. */
function listOfOne() {
  const client = new QueryClient();
  const reads: ((status: string) => void)[] = [];
  const queryFn = (): Promise<unknown> =>
    new Promise((resolve) => reads.push((status) => resolve([{ id: 'shop-3', status }])));
  const status = (): string => client.getQueryData<{ status: string }[]>(['agents', 'all'])![0]!.status;
  const read = client.fetchQuery({ queryKey: ['agents', 'all'], queryFn });
  let send: (event: TenantEvent) => void = () => undefined;
  const stop = keepCurrent(client, {
    subscribe: (listener) => {
      send = listener;
      return () => undefined;
    },
  });
  return { client, reads, read, queryFn, status, stop, send: (event: TenantEvent) => send(event) };
}

const OFFLINE: TenantEvent = { kind: 'agent', id: 'shop-3', status: 'offline' };

test('an event during the load of the list is not replaced by the older answer', async () => {
  vi.useFakeTimers();
  const list = listOfOne();
  list.reads[0]!('online');
  await list.read;
  // The second read gets its answer from the server before the event and arrives after it.
  void list.client.fetchQuery({ queryKey: ['agents', 'all'], queryFn: list.queryFn });
  list.send(OFFLINE);
  expect(list.status()).toBe('offline');
  list.reads[1]!('online');
  await vi.advanceTimersByTimeAsync(1_000);
  expect(list.client.getQueryState(['agents', 'all'])?.isInvalidated).toBe(true);
  list.stop();
});

test('an event changes a complete list without a request', async () => {
  vi.useFakeTimers();
  const list = listOfOne();
  list.reads[0]!('online');
  await list.read;
  list.send(OFFLINE);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(list.status()).toBe('offline');
  expect(list.client.getQueryState(['agents', 'all'])?.isInvalidated).toBe(false);
  list.stop();
});

test('an event during the first read of an execution makes it be read once more', async () => {
  vi.useFakeTimers();
  const client = new QueryClient();
  const answers: ((state: string) => void)[] = [];
  const observer = new QueryObserver(client, {
    queryKey: ['executions', 'e'],
    queryFn: () => new Promise<string>((resolve) => answers.push(resolve)),
  });
  const close = observer.subscribe(() => undefined);
  let send: (event: TenantEvent) => void = () => undefined;
  const stop = keepCurrent(client, {
    subscribe: (listener) => {
      send = listener;
      return () => undefined;
    },
  });
  // The server answered before the execution ended, and the answer arrives after the event.
  send({ kind: 'execution', id: 'e', agent_id: 'a', job_id: null, state: 'succeeded', script: 'hello' } as unknown as TenantEvent);
  await vi.advanceTimersByTimeAsync(500);
  answers[0]!('running');
  await vi.advanceTimersByTimeAsync(500);
  expect(answers).toHaveLength(2);
  answers[1]!('succeeded');
  await vi.advanceTimersByTimeAsync(500);
  expect(client.getQueryData(['executions', 'e'])).toBe('succeeded');
  expect(answers).toHaveLength(2);
  stop();
  close();
});

test('alerts are read again when the server reports one, and not when an agent leaves', async () => {
  vi.useFakeTimers();
  const client = new QueryClient();
  client.setQueryData(['alerts', 'open'], []);
  const isStale = (): boolean | undefined => client.getQueryState(['alerts', 'open'])?.isInvalidated;
  let send: (event: TenantEvent) => void = () => undefined;
  const stop = keepCurrent(client, {
    subscribe: (listener) => {
      send = listener;
      return () => undefined;
    },
  });
  send(OFFLINE);
  await vi.advanceTimersByTimeAsync(5_000);
  expect(isStale()).toBe(false);
  const opened: TenantEvent = { kind: 'alert', id: 'a', rule_id: 'r', agent_id: null, state: 'open' };
  send(opened);
  await vi.advanceTimersByTimeAsync(500);
  expect(isStale()).toBe(true);
  stop();
  // Nothing is left to do after the screen is closed.
  send(opened);
  client.setQueryData(['alerts', 'open'], []);
  stop();
  await vi.advanceTimersByTimeAsync(5_000);
  expect(isStale()).toBe(false);
});

test('of a fleet that goes offline, the first agent is shown at once, and the others together', async () => {
  vi.useFakeTimers();
  const client = new QueryClient();
  const all = Array.from({ length: 1_000 }, (_, i) => ({ id: `web-${i}`, status: 'online' }));
  await client.fetchQuery({ queryKey: ['agents', 'all'], queryFn: () => Promise.resolve(all) });
  const offline = (): number => client.getQueryData<{ status: string }[]>(['agents', 'all'])!.filter(({ status }) => status === 'offline').length;
  let writes = 0;
  client.getQueryCache().subscribe((event) => (writes += event.type === 'updated' && event.action.type === 'success' ? 1 : 0));
  let send: (event: TenantEvent) => void = () => undefined;
  const stop = keepCurrent(client, { subscribe: (listener) => ((send = listener), () => undefined) });
  for (const { id } of all) send({ kind: 'agent', id, status: 'offline' });
  expect(offline()).toBe(1);
  await vi.advanceTimersByTimeAsync(1_000);
  expect(offline()).toBe(1_000);
  expect(writes).toBe(2);
  stop();
});
