import { api, data, readAll, type Schemas } from '../../api/client';

/** So many open alerts are read; a rule has at most 1,000. */
export const MAX_OPEN = 1_000;

/** As many as a tenant may have. */
const MAX_RULES = 100;

export const openAlertsQuery = (isEnabled: boolean) => ({
  queryKey: ['alerts', 'open'],
  enabled: isEnabled,
  queryFn: (): Promise<Schemas['AlertView'][]> => readAll((cursor) => data(api.GET('/api/alerts', { params: { query: { is_open: true, limit: 200, cursor } } })), MAX_OPEN),
});

export const rulesQuery = (isEnabled: boolean) => ({
  queryKey: ['alerts', 'rules'],
  enabled: isEnabled,
  queryFn: async () => ({ items: await readAll((cursor) => data(api.GET('/api/alerts/rules', { params: { query: { limit: 100, cursor } } })), MAX_RULES) }),
});

export const ruleQuery = (id: string | undefined) => ({
  queryKey: ['alerts', 'rules', id],
  enabled: id !== undefined,
  queryFn: () => data(api.GET('/api/alerts/rules/{id}', { params: { path: { id: id! } } })),
});
