import { api, data, readAll, type Schemas } from '../api/client';
import { titleOfStep } from './steps/steps';

export type Execution = Schemas['ExecutionView'];
export type Job = Schemas['JobView'];

export const jobQuery = (id: string) => ({ queryKey: ['jobs', id], queryFn: () => data(api.GET('/api/jobs/{id}', { params: { path: { id } } })) });

/** All executions of a job; at most 10,000, which is more than a person looks at. */
export const jobExecutionsQuery = (id: string) => ({
  queryKey: ['executions', { job_id: id }],
  queryFn: (): Promise<Execution[]> => readAll((cursor) => data(api.GET('/api/jobs/{id}/executions', { params: { path: { id }, query: { limit: 500, cursor } } })), 10_000),
});

/** What an execution, a job or a schedule runs, in one line. */
export const titleOf = (item: { script?: string | null; argv?: string[] | null; file?: Pick<Schemas['FileTransferBody'], 'path'> | null | undefined; steps?: readonly Pick<Schemas['StepBody'], 'name' | 'script' | 'argv'>[] | null }): string =>
  item.file ? `${item.script} ${item.file.path}` : item.steps?.length ? item.steps.map(titleOfStep).join(' → ') : (item.script ?? item.argv?.join(' ') ?? '–');

/** Without TLS to another host, browsers offer no `randomUUID`. */
export function idempotencyKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
