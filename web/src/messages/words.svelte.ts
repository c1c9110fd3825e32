/** The texts of the chosen language. `words.t` changes with it, and so does what is on the screen. */
import { locale } from '../text/locale.svelte';
import { de } from './de';
import { en, type Messages } from './en';

export const LOCALES = { en: 'English', de: 'Deutsch' } as const;
export type Locale = keyof typeof LOCALES;
const STORE = 'muster-language';
const CATALOGUE: Record<Locale, Messages> = { en, de };

function first(): Locale {
  const wanted = [localStorage.getItem(STORE), ...navigator.languages];
  const known = wanted.map((tag) => tag?.slice(0, 2)).find((tag) => tag && tag in LOCALES);
  return (known as Locale | undefined) ?? 'en';
}

class Words {
  locale = $state<Locale>(first());
  get t(): Messages {
    return CATALOGUE[this.locale];
  }
  constructor() {
    document.documentElement.lang = locale.current = this.locale;
    // Chosen in another tab.
    addEventListener('storage', ({ key }) => key === STORE && this.#show(first()));
  }
  choose(chosen: Locale): void {
    localStorage.setItem(STORE, chosen);
    this.#show(chosen);
  }
  #show(chosen: Locale): void {
    document.documentElement.lang = locale.current = this.locale = chosen;
  }
  number(value: number): string {
    return new Intl.NumberFormat(this.locale).format(value);
  }
}

export const words = new Words();
