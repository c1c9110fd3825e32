// Writes a compressed form beside each built file, which the server sends, and prints what a browser
// loads before it shows the first page. It fails if that is more than the bound.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

const dist = new URL('../dist', import.meta.url).pathname;
const MAX_FIRST_LOAD_BYTES = 200_000;
const COMPRESSED = /\.(html|js|css|svg|json)$/;
const sizes = new Map();

for (const entry of readdirSync(dist, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile() || !COMPRESSED.test(entry.name)) continue;
  const path = join(entry.parentPath, entry.name);
  const plain = readFileSync(path);
  const gzip = gzipSync(plain, { level: 9 });
  const brotli = brotliCompressSync(plain, { params: { [constants.BROTLI_PARAM_SIZE_HINT]: plain.length } });
  writeFileSync(`${path}.gz`, gzip);
  writeFileSync(`${path}.br`, brotli);
  sizes.set(path.slice(dist.length), { plain: plain.length, gzip: gzip.length, brotli: brotli.length });
}

const index = readFileSync(join(dist, 'index.html'), 'utf8');
const first = ['/index.html', ...[...index.matchAll(/(?:src|href)="(\/[^"]+)"/g)].map((match) => match[1])];
const total = (kind) => first.reduce((sum, path) => sum + (sizes.get(path)?.[kind] ?? 0), 0);
const kilobytes = (bytes) => `${(bytes / 1000).toFixed(1)} kB`;
console.log(
  `First load: ${kilobytes(total('gzip'))} with gzip, ${kilobytes(total('brotli'))} with brotli, ${kilobytes(total('plain'))} plain (at most ${kilobytes(MAX_FIRST_LOAD_BYTES)} with gzip)`,
);
if (total('gzip') > MAX_FIRST_LOAD_BYTES) process.exit(1);
