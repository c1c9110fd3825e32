/** One clock for all relative times on the screen. It stops while the page is hidden. */
class Clock {
  now = $state(Date.now());
  constructor() {
    setInterval(() => document.hidden || (this.now = Date.now()), 1_000);
    document.addEventListener('visibilitychange', () => (this.now = Date.now()));
  }
}
export const clock = new Clock();
