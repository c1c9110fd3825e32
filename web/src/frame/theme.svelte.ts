/** The theme: that of the system, unless a person chose one. */
export type Theme = 'system' | 'light' | 'dark';
const STORE = 'muster-theme';
const dark = matchMedia('(prefers-color-scheme: dark)');

const stored = (): Theme => (localStorage.getItem(STORE) as Theme | null) ?? 'system';

class ThemeChoice {
  choice = $state<Theme>(stored());
  /** What is on the screen. */
  shown = $state<'light' | 'dark'>('light');
  constructor() {
    dark.addEventListener('change', () => this.#apply());
    // Chosen in another tab.
    addEventListener('storage', ({ key }) => {
      if (key !== STORE) return;
      this.choice = stored();
      this.#apply();
    });
    this.#apply();
  }
  choose(choice: Theme): void {
    this.choice = choice;
    if (choice === 'system') localStorage.removeItem(STORE);
    else localStorage.setItem(STORE, choice);
    this.#apply();
  }
  #apply(): void {
    const isDark = this.choice === 'dark' || (this.choice === 'system' && dark.matches);
    this.shown = isDark ? 'dark' : 'light';
    document.documentElement.dataset.theme = this.shown;
  }
}
export const theme = new ThemeChoice();
