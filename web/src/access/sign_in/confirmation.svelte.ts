import { ApiProblem } from '../../api/problem';

/** The person closed the dialog instead of giving what was asked for. */
export class Cancelled extends Error {}

/** What the dialog asks for: the password, or the number of agents that the work reaches. */
export type Asked = { kind: 'password' } | { kind: 'reach'; agents: number };

/**
 * Some changes need a password that was given in the last 15 minutes, and work on many agents may need
 * their number: the frame asks for it in a dialog.
 */
class Confirmation {
  asked = $state.raw<Asked | undefined>();
  #waiting: { resolve: () => void; reject: (reason: Error) => void } | undefined;

  /** Does the work; if the server wants a confirmation first, asks for it and does the work again. */
  async before<T>(work: (reach: number | undefined) => Promise<T>): Promise<T> {
    let reach: number | undefined;
    for (;;) {
      try {
        return await work(reach);
      } catch (error) {
        const asked = askedBy(error);
        // Work that does not take the number, or whose number was given, is not asked about again.
        if (!asked || (asked.kind === 'reach' && (work.length === 0 || asked.agents === reach))) throw error;
        await new Promise<void>((resolve, reject) => {
          this.#waiting = { resolve, reject };
          this.asked = asked;
        });
        if (asked.kind === 'reach') reach = asked.agents;
      }
    }
  }
  end(isConfirmed: boolean): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    this.asked = undefined;
    if (isConfirmed) waiting?.resolve();
    else waiting?.reject(new Cancelled());
  }
}

function askedBy(error: unknown): Asked | undefined {
  if (!(error instanceof ApiProblem)) return undefined;
  if (error.code === 'confirmation_required') return { kind: 'password' };
  const agents = error.code === 'agent_count_unconfirmed' ? Number(error.fields?.[0]?.limit) : undefined;
  return agents ? { kind: 'reach', agents } : undefined;
}
export const confirmation = new Confirmation();
