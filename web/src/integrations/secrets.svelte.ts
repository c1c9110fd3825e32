/** Secrets of hooks that were just made, until the page is left or loaded again: the server shows each once. */
class NewSecrets {
  #byHook = $state<Record<string, string>>({});
  of(id: string): string | undefined {
    return this.#byHook[id];
  }
  keep(id: string, secret: string): void {
    this.#byHook[id] = secret;
  }
  forget(id: string): void {
    delete this.#byHook[id];
  }
}
export const newSecrets = new NewSecrets();
