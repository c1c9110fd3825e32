import { api, data, readAll, type Schemas } from '../../api/client';
import type { Execution } from '../../commands/queries';
import { SCRIPTS } from './transfer';

export type StoredFile = Schemas['FileView'];
/** Most files of a tenant. */
const MAX_FILES = 1_000;
const SHOWN = 50;

/** The uploaded files, newest first. */
export const filesQuery = (isEnabled = true) => ({
  queryKey: ['files'],
  enabled: isEnabled,
  queryFn: (): Promise<StoredFile[]> => readAll((cursor) => data(api.GET('/api/files', { params: { query: { cursor, limit: 500 } } })), MAX_FILES),
});

/** The last pushes and pulls, of one agent or of all. */
export const transfersQuery = (agent?: string) => ({
  queryKey: ['executions', 'transfers', agent ?? 'all'],
  queryFn: async (): Promise<Execution[]> => {
    const pages = await Promise.all(Object.values(SCRIPTS).map((script) => data(api.GET('/api/executions', { params: { query: { script, limit: SHOWN, ...(agent ? { agent_id: agent } : {}) } } }))));
    return pages.flatMap((page) => page.items).sort((a, b) => b.created_at.localeCompare(a.created_at)).slice(0, SHOWN);
  },
});
