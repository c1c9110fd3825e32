// Archives of packages, as a person would have them: zip without compression, which needs no program.
import { crc32 } from 'node:zlib';

/** A zip archive with these files. */
export function zipOf(files: Record<string, string | Buffer>): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const [path, text] of Object.entries(files)) {
    const [name, content] = [Buffer.from(path), Buffer.from(text)];
    // Version, flags, method, time, date, checksum, sizes, and the length of the name: the same in both places.
    const fields = Buffer.alloc(26);
    fields.writeUInt16LE(20, 0);
    fields.writeUInt16LE(0x21, 8);
    fields.writeUInt32LE(crc32(content), 10);
    fields.writeUInt32LE(content.length, 14);
    fields.writeUInt32LE(content.length, 18);
    fields.writeUInt16LE(name.length, 22);
    const entry = Buffer.concat([Buffer.from('PK\x03\x04', 'latin1'), fields, name, content]);
    // Made by: Unix, with the mode of a plain file that may be started.
    const [madeBy, rest] = [Buffer.from([20, 3]), Buffer.alloc(14)];
    rest.writeUInt32LE((0o100755 << 16) >>> 0, 6);
    rest.writeUInt32LE(offset, 10);
    directory.push(Buffer.concat([Buffer.from('PK\x01\x02', 'latin1'), madeBy, fields, rest, name]));
    parts.push(entry);
    offset += entry.length;
  }
  const list = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(directory.length, 8);
  end.writeUInt16LE(directory.length, 10);
  end.writeUInt32LE(list.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...parts, list, end]);
}

/** A package that prints something. `padding` makes it larger. */
export function packageOf(name: string, version: string, padding = Buffer.alloc(0)): Buffer {
  const description = `name = "${name}"\nversion = "${version}"\nkind = "job"\nexecutor = "sh"\nentry = "bin/run.sh"\nargv = ["--all", "<b>"]\ntimeout_ms = 60000\n\n[[parameters]]\nname = "WHO"\nrequired = true\npattern = "[a-z]+"\nhelp = "Whom it greets"\n`;
  return zipOf({ 'muster.toml': description, 'bin/run.sh': 'echo "hello $WHO from the package"\n', ...(padding.length ? { 'data.bin': padding } : {}) });
}

/** A package that hosts run by themselves every hour. */
export const taskOf = (name: string, version: string): Buffer =>
  zipOf({
    'muster.toml': `name = "${name}"\nversion = "${version}"\nkind = "task"\nexecutor = "sh"\nentry = "run.sh"\n\n[schedule]\nevery_ms = 3600000\n\n[[parameters]]\nname = "WHO"\nrequired = true\nhelp = "Whom it greets <b>"\n`,
    'run.sh': 'echo "hello $WHO from the task"\n',
  });

/** A package that hosts keep running: its program goes on until it is ended, or fails at once. */
export const serviceOf = (name: string, fails = false): Buffer =>
  zipOf({
    'muster.toml': `name = "${name}"\nversion = "1.0.0"\nkind = "service"\nexecutor = "sh"\nentry = "run.sh"\n\n[service.health]\nentry = "health.sh"\ninterval_ms = 1000\n`,
    'run.sh': fails ? 'echo "cannot listen" >&2\nexit 7\n' : 'echo "<b>ready</b>"\nwhile :; do sleep 1; done\n',
    'health.sh': 'exit 0\n',
  });
