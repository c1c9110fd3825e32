/** The agents that were chosen in the list, for the page that runs something on them. */
const STORE = 'muster-selection';
export const remember = (ids: string[]): void => sessionStorage.setItem(STORE, JSON.stringify(ids));
export const remembered = (): string[] => JSON.parse(sessionStorage.getItem(STORE) ?? '[]') as string[];
