import { api, data } from '../../api/client';

/** What the tenant stores, as last measured. */
export const storageQuery = (enabled = true) => ({ queryKey: ['storage'], enabled, queryFn: () => data(api.GET('/api/storage')) });
