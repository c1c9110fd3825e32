/** The address is the state: what a person sees can be reloaded, sent and gone back to. */

/** Lists whose filters stay when a person leaves them and comes back by a link of the page. */
const LISTS = ['/fleet', '/jobs', '/history', '/schedules', '/library', '/library/packages', '/library/assignments', '/approvals', '/audit'];
const STORE = 'muster-filters';

function readKept(): Record<string, string> {
  try {
    const stored: unknown = JSON.parse(sessionStorage.getItem(STORE) ?? '{}');
    return typeof stored === 'object' && stored !== null ? (stored as Record<string, string>) : {};
  } catch {
    return {};
  }
}

class Router {
  path = $state(location.pathname);
  query = $state.raw(new URLSearchParams(location.search));
  hash = $state(location.hash);
  /** The filters that each list had last, in this tab. */
  #kept = $state.raw<Record<string, string>>(readKept());

  constructor() {
    this.#keep();
    addEventListener('popstate', () => this.#read());
    document.addEventListener('click', (event) => this.#follow(event));
  }

  go(to: string, { replace = false } = {}): void {
    if (to === location.pathname + location.search + location.hash) return;
    history[replace ? 'replaceState' : 'pushState'](null, '', to);
    const before = this.path;
    this.#read();
    if (this.path !== before) {
      scrollTo(0, 0);
      // People who use a screen reader hear where they are.
      requestAnimationFrame(() => {
        const main = document.querySelector<HTMLElement>('main');
        // A form that begins with its first field keeps the cursor there.
        if (!main?.contains(document.activeElement)) main?.focus({ preventScroll: true });
      });
    }
  }

  /** Changes parameters of the query; an empty value removes one. */
  set(values: Record<string, string | undefined>, { replace = true } = {}): void {
    const query = new URLSearchParams(this.query);
    for (const [name, value] of Object.entries(values)) {
      if (value) query.set(name, value);
      else query.delete(name);
    }
    const text = query.toString();
    this.go(this.path + (text ? `?${text}` : '') + this.hash, { replace });
  }

  /** The address of a list with the filters that it had last. */
  back(list: string): string {
    return list + (this.#kept[list] ?? '');
  }

  param(name: string): string {
    return this.query.get(name) ?? '';
  }

  #read(): void {
    this.path = location.pathname;
    this.query = new URLSearchParams(location.search);
    this.hash = location.hash;
    this.#keep();
  }

  #keep(): void {
    if (!LISTS.includes(location.pathname) || this.#kept[location.pathname] === location.search) return;
    this.#kept = { ...this.#kept, [location.pathname]: location.search };
    sessionStorage.setItem(STORE, JSON.stringify(this.#kept));
  }

  /** Links are ordinary links: another tab, copying and the keyboard work. */
  #follow(event: MouseEvent): void {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element | null)?.closest('a');
    if (!link || link.target || link.hasAttribute('download') || link.origin !== location.origin) return;
    if (/^\/(api|docs|install|assets)(\/|$)/.test(link.pathname)) return;
    event.preventDefault();
    this.go(link.pathname + link.search + link.hash);
  }
}

export const router = new Router();
