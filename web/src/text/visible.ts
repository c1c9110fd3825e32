/**
 * Text from hosts, made visible: characters that move the cursor, change the direction of text or show
 * nothing are replaced by their code. The result is put into text nodes only.
 */

export interface Part {
  text: string;
  isEscape: boolean;
}

// Control characters, direction marks and overrides, characters without width, line and paragraph
// separators, variation selectors beyond emoji, tags, and halves of surrogate pairs.
const HIDDEN =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0d\ufeff\uffa0\ufff9-\ufffb]|[\u{e0000}-\u{e0fff}]|[\ud800-\udfff]/gu;

const code = (text: string): string =>
  `\\u{${text.codePointAt(0)!.toString(16).padStart(4, '0')}}`;

/** The text in parts; escapes are shown differently, so that text can not imitate one. */
export function parts(text: string, { lines = false } = {}): Part[] {
  const found: Part[] = [];
  let from = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (lines && (match[0] === '\n' || match[0] === '\t')) continue;
    if (match.index > from) found.push({ text: text.slice(from, match.index), isEscape: false });
    found.push({ text: code(match[0]), isEscape: true });
    from = match.index + match[0].length;
  }
  if (from < text.length || found.length === 0) found.push({ text: text.slice(from), isEscape: false });
  return found;
}

/** The same as one plain text, for titles and attributes. */
export const visible = (text: string): string => parts(text).map((part) => part.text).join('');
