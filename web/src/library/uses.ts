/** Schedules, hooks and assignments that run a script of the library or a package. */
import { api, data, readAll, type Schemas } from '../api/client';

export interface Use {
  kind: 'schedule' | 'hook' | 'assignment' | 'service';
  id: string;
  name: string;
}

/** More are not looked through: the list is help, and the server decides. */
const MAX_READ = 2_000;

type Named = { id: string; name: string; job: Pick<Schemas['ScheduledJob'], 'script' | 'steps'> };
type Assigned = Pick<Schemas['AssignmentView'], 'id' | 'name' | 'kind' | 'script'>;

/** The assignments of one of these scripts or packages. */
export const assignmentsOf = (assignments: readonly Assigned[], isOne: (script: string) => boolean): Use[] =>
  assignments.filter(({ script }) => isOne(script)).map(({ id, name, kind }) => ({ kind: kind === 'service' ? 'service' : 'assignment', id, name }));

/** Those whose job runs one of these scripts, also as a step. */
export function usesOf(schedules: readonly Named[], hooks: readonly Named[], isOne: (script: string) => boolean): Use[] {
  const of = (kind: Use['kind'], items: readonly Named[]): Use[] => items.filter(({ job }) => [job.script, ...(job.steps ?? []).map((step) => step.script)].some((script) => script && isOne(script))).map(({ id, name }) => ({ kind, id, name }));
  return [...of('schedule', schedules), ...of('hook', hooks)];
}

const PAGES: Record<Use['kind'], string> = { schedule: '/schedules', hook: '/settings/hooks', assignment: '/library/assignments', service: '/library/services' };
export const hrefOf = (use: Use): string => `${PAGES[use.kind]}/${use.id}`;

/** `key` names what `isOne` looks for. Assignments of packages are shown by themselves. */
export const usesQuery = (isEnabled: boolean, key: string, isOne: (script: string) => boolean) => ({
  queryKey: ['uses', key],
  enabled: isEnabled,
  staleTime: 0,
  queryFn: async (): Promise<Use[]> => {
    const [schedules, hooks, assignments] = await Promise.all([
      readAll((cursor) => data(api.GET('/api/schedules', { params: { query: { cursor, limit: 500 } } })), MAX_READ),
      readAll((cursor) => data(api.GET('/api/hooks', { params: { query: { cursor, limit: 500 } } })), MAX_READ),
      readAll((cursor) => data(api.GET('/api/assignments', { params: { query: { cursor, limit: 500 } } })), MAX_READ),
    ]);
    return [...usesOf(schedules, hooks, isOne), ...assignmentsOf(assignments.filter(({ kind }) => kind === 'script'), isOne)];
  },
});
