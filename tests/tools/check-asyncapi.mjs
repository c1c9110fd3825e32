// Reads an AsyncAPI document with AsyncAPI's own parser: node check-asyncapi.mjs NODE_MODULES FILE
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

const [modules, file] = process.argv.slice(2);
const { Parser } = createRequire(`${modules}/`)("@asyncapi/parser");
const { document, diagnostics } = await new Parser().parse(await readFile(file, "utf8"));
// The one thing that it recommends and that does not hold: a server of its own has no fixed address.
const accepted = ["asyncapi-3-servers", "asyncapi-servers", "asyncapi-latest-version", "asyncapi3-tags",
  "asyncapi-info-contact", "asyncapi-info-contact-properties"];
const problems = diagnostics.filter(({ code }) => !accepted.includes(code));
for (const { code, path, message } of problems) console.error(code, path.join("."), message);
if (!document || problems.length > 0) process.exit(1);
console.log(`${document.allMessages().length} messages, ${document.allOperations().length} operations`);
