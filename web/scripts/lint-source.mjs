// Rules of the sources that no compiler checks. Hosts are hostile: nothing that they report becomes markup.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const source = new URL('../src', import.meta.url).pathname;
/** Files in one folder; a folder with more is split by feature. */
const MAX_FILES = 18;
const RULES = [
  { find: /\{@html/, why: 'markup from text: show it with <Text>' },
  { find: /\b(inner|outer)HTML\b|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser/, why: 'markup from text: use text nodes' },
  { find: /\beval\(|new Function\(|javascript:/, why: 'code from text' },
  { find: /\sstyle="/, why: 'inline style, which the policy of the page forbids: use a class or style:property' },
  { find: /#[0-9a-fA-F]{3,8}\b(?!['"]?\s*\})|\b(rgb|rgba|hsl|hsla|oklch|oklab|color)\(/, why: 'a literal colour: use a token of tokens.css', except: /tokens\.css$|schema\.d\.ts$|\.test\.ts$/, only: /\.(css|svelte)$/ },
  { find: /https?:\/\//, why: 'an address outside of the server', except: /schema\.d\.ts$|\.test\.ts$|messages\// },
  { find: /localStorage\.setItem\([^)]*(token|key|password)/i, why: 'a secret in the storage of the browser' },
];

let found = 0;
for (const folder of [source, ...readdirSync(source, { recursive: true, withFileTypes: true }).filter((entry) => entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name))]) {
  const count = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isFile()).length;
  if (count <= MAX_FILES) continue;
  console.error(`${folder.slice(source.length - 3)}: ${count} files, at most ${MAX_FILES}: split it by feature`);
  found += 1;
}
for (const entry of readdirSync(source, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile() || !/\.(ts|svelte|css)$/.test(entry.name)) continue;
  const path = join(entry.parentPath, entry.name);
  readFileSync(path, 'utf8')
    .split('\n')
    .forEach((line, index) => {
      for (const { find, why, except, only } of RULES) {
        if (except?.test(path) || (only && !only.test(path)) || !find.test(line)) continue;
        console.error(`${path.slice(source.length - 3)}:${index + 1}: ${why}\n    ${line.trim()}`);
        found += 1;
      }
    });
}
if (found > 0) process.exit(1);
