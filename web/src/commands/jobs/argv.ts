/** Words of a command line; quotes keep spaces. No shell reads it. */
export function split(text: string): string[] {
  return [...text.matchAll(/"((?:\\.|[^"\\])*)"|'([^']*)'|(\S+)/g)].map((match) => match[1]?.replace(/\\(.)/g, '$1') ?? match[2] ?? match[3] ?? '');
}

/** The same words as one text that `split` reads again. */
export const join = (argv: readonly string[]): string => argv.map((word) => (/^[^\s"']+$/.test(word) ? word : `"${word.replace(/["\\]/g, '\\$&')}"`)).join(' ');

/** `10`, or `25%`. */
export const asSize = (text: string): number | string => (/^\d+$/.test(text) ? Number(text) : text);
