/** Colours of terminal output. Every other control sequence is dropped, as a terminal without it would. */

export interface Style {
  color?: string;
  bold?: boolean;
  dim?: boolean;
  italic?: boolean;
  underline?: boolean;
}

export interface Span {
  text: string;
  style: Style;
}

const COLORS = ['black', 'red', 'green', 'yellow', 'blue', 'magenta', 'cyan', 'white'];
// CSI sequences; OSC, DCS, APC, PM and SOS strings up to their end; two-character escapes.
const SEQUENCE =
  /\u001b\[([0-9:;<=>?]*)[ -/]*([@-~])|\u001b[\]PX^_][^\u0007\u001b]*(?:\u0007|\u001b\\|$)|\u001b[ -/]*[0-~]|\u001b$/g;

/** Splits one line; `style` is what the line before left on, and is returned as it is after this one. */
export function spans(line: string, style: Style): { spans: Span[]; style: Style } {
  const found: Span[] = [];
  let from = 0;
  let now = style;
  const add = (text: string): void => {
    if (text) found.push({ text, style: now });
  };
  for (const match of line.matchAll(SEQUENCE)) {
    add(line.slice(from, match.index));
    from = match.index + match[0].length;
    if (match[2] === 'm') now = apply(now, match[1] ?? '');
  }
  add(line.slice(from));
  return { spans: found, style: now };
}

function apply(style: Style, parameters: string): Style {
  let next: Style = { ...style };
  const codes = parameters.split(/[;:]/).map(Number);
  for (let i = 0; i < codes.length; i += 1) {
    const code = codes[i] ?? 0;
    if (code === 0) next = {};
    else if (code === 1) next.bold = true;
    else if (code === 2) next.dim = true;
    else if (code === 3) next.italic = true;
    else if (code === 4) next.underline = true;
    else if (code === 22) next.bold = next.dim = false;
    else if (code === 23) next.italic = false;
    else if (code === 24) next.underline = false;
    else if (code >= 30 && code <= 37) next.color = COLORS[code - 30];
    else if (code >= 90 && code <= 97) next.color = COLORS[code - 90];
    else if (code === 39) next.color = undefined;
    else if (code === 38 || code === 48) {
      // Only the sixteen named colours have a legible form in both themes.
      const color = codes[i + 1] === 5 ? codes[i + 2] : undefined;
      if (code === 38) next.color = color !== undefined && color < 16 ? COLORS[color % 8] : undefined;
      i += codes[i + 1] === 5 ? 2 : 4;
    }
  }
  return next;
}

/** A carriage return starts the line again: a terminal shows what is behind the last one. */
export function afterReturns(line: string): string {
  const text = line.endsWith('\r') ? line.slice(0, -1) : line;
  const last = text.lastIndexOf('\r');
  return last < 0 ? text : text.slice(last + 1);
}
