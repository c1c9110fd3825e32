import { api } from '../../api/client';

/** Ends the session of this browser. The page is loaded again, so that none of its data remains. */
export async function signOut(): Promise<void> {
  await api.POST('/api/auth/logout').catch(() => undefined);
  location.assign('/sign-in');
}

/** Changes to another tenant of the person. */
export async function changeTenant(tenantId: string): Promise<void> {
  await api.POST('/api/auth/switch', { body: { tenant_id: tenantId } });
  location.assign('/');
}
