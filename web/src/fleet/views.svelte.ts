/** Searches with a name, kept in this browser. They hold no secrets: only what is in the address. */
const STORE = 'muster-fleet-views';

export interface View {
  name: string;
  query: string;
}

function read(): View[] {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(STORE) ?? '[]');
    return Array.isArray(stored) ? stored.filter((item): item is View => typeof item?.name === 'string' && typeof item?.query === 'string') : [];
  } catch {
    return [];
  }
}

class Views {
  list = $state.raw<View[]>(read());
  save(name: string, query: string): void {
    this.#write([...this.list.filter((view) => view.name !== name), { name, query }].sort((a, b) => a.name.localeCompare(b.name)));
  }
  remove(name: string): void {
    this.#write(this.list.filter((view) => view.name !== name));
  }
  #write(list: View[]): void {
    this.list = list;
    localStorage.setItem(STORE, JSON.stringify(list));
  }
}
export const views = new Views();
