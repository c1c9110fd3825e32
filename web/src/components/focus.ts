/** Puts the cursor into the first field of a form that is still empty. */
export const focusFirstEmpty = (form: HTMLElement): void => [...form.querySelectorAll('input')].find((field) => !field.value)?.focus();

/** A step that takes the button away that had the focus gives it to its own first one: a keyboard goes on from there. */
export function restoreFocus(step: HTMLElement): void {
  const focused = document.activeElement;
  if (focused && focused !== document.body && focused.tagName !== 'MAIN') return;
  const first = step.matches('a, button') ? step : step.querySelector<HTMLElement>('a, button');
  first?.focus();
}
