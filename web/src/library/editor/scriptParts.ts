/** The two parts of a script with a trigger, in one text: the text is what the server stores. */

export type Part = 'trigger' | 'main';

export interface ScriptParts {
  /** The part that comes first in the text. */
  first: Part;
  /** It, with all that is before it and without its last line break. */
  head: string;
  tail: string;
}

/** A definition of Python, without indentation. */
const DEFINITION = /^(?:async[ \t]+)?def[ \t]+(trigger|main)[ \t]*\(/;
/** In other languages, this comment alone in its line starts main. */
const MARK = /^[ \t]*(?:#|\/\/)[ \t]*main[ \t]*$/i;

export const isPython = (interpreter: string): boolean => interpreter.trim() === 'python';

/** Both parts, if the text marks where the second one starts. Together they are the text, byte for byte. */
export function splitParts(text: string, interpreter: string): ScriptParts | undefined {
  const lines = text.split('\n');
  const cut = (at: number, first: Part): ScriptParts => ({ first, head: lines.slice(0, at).join('\n'), tail: lines.slice(at).join('\n') });
  if (!isPython(interpreter)) {
    const at = lines.findIndex((line) => MARK.test(line));
    return at > 0 ? cut(at, 'trigger') : undefined;
  }
  const names = lines.map((line) => DEFINITION.exec(line)?.[1]);
  const [trigger, main] = [names.indexOf('trigger'), names.indexOf('main')];
  if (trigger < 0 || main < 0) return undefined;
  let at = Math.max(trigger, main);
  // What is right above a function belongs to it.
  while (at > Math.min(trigger, main) + 1 && /^[@#]/.test(lines[at - 1]!)) at -= 1;
  return cut(at, trigger < main ? 'trigger' : 'main');
}

/** The text again: the second part starts in a line of its own. */
export const joinParts = (head: string, tail: string): string => `${head}\n${tail}`;

/** A text with both parts, to begin with. */
export function frameOfParts(interpreter: string): string {
  const program = interpreter.trim();
  if (isPython(program)) return 'def trigger(data):\n    data["calls"] = data.get("calls", 0) + 1\n    return data["calls"] % 10 == 0\n\n\ndef main(data):\n    print(data.get("calls", 0))\n';
  if (/(^|\/)node$/.test(program)) return "const { writeFileSync } = require('node:fs');\n\nif (process.env.MUSTER_PART === 'trigger') {\n  writeFileSync(process.env.MUSTER_DECISION_FILE, 'run');\n  process.exit();\n}\n\n// main\nconsole.log('main');\n";
  const start = /^(ba)?sh$/.test(program) ? `#!/bin/${program}\nset -eu\n\n` : '';
  return `${start}if [ "$MUSTER_PART" = trigger ]; then\n  [ ! -e /var/run/reboot-required ] || echo run >"$MUSTER_DECISION_FILE"\n  exit\nfi\n\n# main\necho main\n`;
}
