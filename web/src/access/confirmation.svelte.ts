import { ApiProblem } from '../api/problem';

/** The person closed the dialog instead of giving the password. */
export class Cancelled extends Error {}

/** Some changes need a password that was given in the last 15 minutes: the frame asks for it in a dialog. */
class Confirmation {
  isOpen = $state(false);
  #waiting: { resolve: () => void; reject: (reason: Error) => void } | undefined;

  /** Does the work; if the server wants the password first, asks for it and does the work again. */
  async before<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof ApiProblem && error.code === 'confirmation_required')) throw error;
      await new Promise<void>((resolve, reject) => {
        this.#waiting = { resolve, reject };
        this.isOpen = true;
      });
      return work();
    }
  }
  end(isConfirmed: boolean): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    this.isOpen = false;
    if (isConfirmed) waiting?.resolve();
    else waiting?.reject(new Cancelled());
  }
}
export const confirmation = new Confirmation();
