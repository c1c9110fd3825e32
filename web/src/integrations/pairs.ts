/** Lines of `NAME=value`, as a form has them. A line without a sign or a name is a mistake that the server names. */
export function parsePairs(text: string): Record<string, string> {
  const lines = text.split('\n').filter((line) => line.trim());
  return Object.fromEntries(
    lines.map((line) => {
      const at = line.indexOf('=');
      return at < 0 ? [line.trim(), ''] : [line.slice(0, at).trim(), line.slice(at + 1)];
    }),
  );
}

export const showPairs = (pairs: Record<string, unknown> | null | undefined): string =>
  Object.entries(pairs ?? {})
    .map(([name, value]) => `${name}=${String(value)}`)
    .join('\n');
