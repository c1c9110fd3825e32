// Checks payloads: node check_payloads.mjs NODE_MODULES FILE
//
// FILE has a list of payloads for each of `teams`, `discord` and `pagerduty`. Microsoft's own library reads the
// cards and reports what version 1.4 of the schema does not have. TypeScript compares the others with published
// types, as literals, so that it refuses unknown fields too.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const [modules, file] = process.argv.slice(2);
const load = createRequire(`${modules}/`);
const payloads = JSON.parse(await readFile(file, "utf8"));
const cards = load("adaptivecards/dist/adaptivecards.js");
const ts = load("typescript");

/** Names of choices may have any case. */
const lower = (value) => {
  if (Array.isArray(value)) return value.map(lower);
  if (value === null || typeof value !== "object") return String(value).toLowerCase();
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, lower(part)]));
};

function checkCard(message) {
  const { type, attachments, ...rest } = message;
  assert.deepEqual([type, attachments.length, rest], ["message", 1, {}]);
  const { contentType, contentUrl, content, ...odd } = attachments[0];
  assert.deepEqual([contentType, contentUrl, odd], ["application/vnd.microsoft.card.adaptive", null, {}]);
  const context = new cards.SerializationContext(cards.Versions.v1_4);
  const card = new cards.AdaptiveCard();
  card.parse(content, context);
  const problems = Array.from({ length: context.eventCount }, (_, at) => context.getEventAt(at).message);
  assert.deepEqual(problems, []);
  // What the library does not know is missing in what it writes.
  assert.deepEqual(lower(card.toJSON()), lower(content));
}

// Beside the modules, though it is never written.
const NAME = resolve(modules, "../payloads.ts");
const TYPES = `
import type { RESTPostAPIWebhookWithTokenJSONBody as Discord } from "discord-api-types/v10";
import type { EventPayloadV2 } from "@pagerduty/pdjs/build/src/events.js";
// The description of the Events API has \`client\` and \`client_url\`, and only a trigger needs a payload.
type PagerDuty = Omit<EventPayloadV2, "payload"> & { payload?: EventPayloadV2["payload"]; client?: string; client_url?: string };
`;

/** What the compiler says about literals of these types. */
function problemsOf(discord, pagerduty) {
  const text = `${TYPES}export const discord: Discord[] = ${JSON.stringify(discord)};
export const pagerduty: PagerDuty[] = ${JSON.stringify(pagerduty)};`;
  const options = { strict: true, exactOptionalPropertyTypes: true, noEmit: true, skipLibCheck: true, types: [],
    module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext, target: ts.ScriptTarget.ES2022,
    lib: ["lib.es2022.d.ts", "lib.dom.d.ts"] };
  const host = ts.createCompilerHost(options);
  const read = host.getSourceFile.bind(host);
  host.getSourceFile = (name, ...rest) => (name === NAME ? ts.createSourceFile(name, text, ts.ScriptTarget.ES2022) : read(name, ...rest));
  const exists = host.fileExists.bind(host);
  host.fileExists = (name) => name === NAME || exists(name);
  const program = ts.createProgram([NAME], options, host);
  return ts.getPreEmitDiagnostics(program).map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"));
}

payloads.teams.forEach(checkCard);
assert.deepEqual(problemsOf(payloads.discord, payloads.pagerduty), []);

// The checks themselves must be able to fail.
const odd = structuredClone(payloads.teams[0]);
odd.attachments[0].content.body[0].colour = "red";
assert.throws(() => checkCard(odd));
const unknown = structuredClone(payloads.teams[0]);
unknown.attachments[0].content.body[0].spacing = "tiny";
assert.throws(() => checkCard(unknown));
const discord = { ...payloads.discord[0], odd: 1 };
const [trigger] = payloads.pagerduty.filter(({ payload }) => payload);
const pagerduty = { ...trigger, payload: { ...trigger.payload, severity: "odd" } };
assert.equal(problemsOf([discord], [pagerduty]).length, 2);
console.log(Object.entries(payloads).map(([kind, bodies]) => `${kind}: ${bodies.length}`).join(" "));
