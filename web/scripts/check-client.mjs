// Fails if src/api/schema.d.ts is not what server/openapi.json describes: run `npm run client`.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const web = new URL('..', import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), 'muster-client-'));
try {
  const fresh = join(folder, 'schema.d.ts');
  const program = join(web, 'node_modules/.bin/openapi-typescript');
  execFileSync(program, [join(web, '../server/openapi.json'), '--default-non-nullable=false', '--output', fresh], { stdio: 'ignore' });
  if (readFileSync(fresh, 'utf8') !== readFileSync(join(web, 'src/api/schema.d.ts'), 'utf8')) {
    console.error('web/src/api/schema.d.ts is out of date: run `npm run client` in web/ and commit it');
    process.exitCode = 1;
  }
} finally {
  rmSync(folder, { recursive: true });
}
