import type { Schemas } from '../api/client';

export type Scope = Schemas['Scope'];

/** Who is signed in. Screens are shown only after it is known. */
class Me {
  view = $state.raw<Schemas['MyselfView'] | undefined>();
  get scopes(): readonly string[] {
    return this.view?.scopes ?? [];
  }
  can(...scopes: Scope[]): boolean {
    return scopes.every((scope) => this.scopes.includes(scope));
  }
}
export const me = new Me();
