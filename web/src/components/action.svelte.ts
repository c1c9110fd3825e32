import { Cancelled, confirmation } from '../access/sign_in/confirmation.svelte';

/** What a button or a form does: at most once at a time, and the screen shows why it did not work. */
export class Action {
  error = $state.raw<unknown>();
  isBusy = $state(false);

  /**
   * True if the work was done. Asks for the password where the server wants it again, and for the number of
   * agents that the work reaches where the ladder wants it: work that takes this number is done again with it.
   */
  async run(work: (reach: number | undefined) => Promise<unknown>): Promise<boolean> {
    if (this.isBusy) return false;
    this.error = undefined;
    this.isBusy = true;
    try {
      await confirmation.before(work);
      return true;
    } catch (error) {
      if (!(error instanceof Cancelled)) this.error = error;
      return false;
    } finally {
      this.isBusy = false;
    }
  }
}
