import { api, data, type Schemas } from '../../api/client';
import { byCursor, type Cursor } from '../../api/pages';
import { me } from '../me.svelte';

export type Certificate = Schemas['ClientCertificateView'];
export type CertificateState = Schemas['CertificateState'];
/** What needs a person first. */
export const STATES: readonly CertificateState[] = ['expired', 'expiring', 'due', 'valid', 'revoked'];

export const certificateStatusQuery = () => ({
  queryKey: ['certificates', 'status'],
  enabled: me.can('agents:read'),
  queryFn: () => data(api.GET('/api/certificates/status')),
});

export const certificatesQuery = (state: CertificateState | undefined) => ({
  queryKey: ['certificates', 'list', state ?? 'all'],
  enabled: me.can('agents:read'),
  ...byCursor,
  queryFn: ({ pageParam }: Cursor) => data(api.GET('/api/certificates', { params: { query: { limit: 100, cursor: pageParam, ...(state ? { state } : {}) } } })),
});

type Status = Schemas['CertificatesStatusView'];
export const countOf = (status: Status, state: CertificateState): number =>
  ({ valid: status.valid_count, due: status.due_count, expiring: status.expiring_count, expired: status.expired_count, revoked: status.revoked_count })[state];

/** Who may revoke it: another right is needed for keys and people. */
export const mayRevoke = (certificate: Pick<Certificate, 'holder' | 'holder_id'>): boolean =>
  me.can('agents:write') && (certificate.holder === 'agent' || certificate.holder_id === me.view?.id || me.can(certificate.holder === 'api_key' ? 'api_keys:write' : 'members:write'));
