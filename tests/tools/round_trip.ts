// A round trip with the types that openapi-typescript generates: compiled with --strict.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { env: Record<string, string | undefined> };

type Command = components["schemas"]["CommandName"];

const client = createClient<paths>({
  baseUrl: process.env["MUSTER"] ?? "",
  headers: { Authorization: `Bearer ${process.env["KEY"]}` },
});

function known<T>(answer: { data?: T; error?: components["schemas"]["Problem"] }): T {
  if (answer.data === undefined) throw new Error(answer.error?.detail ?? "no answer");
  return answer.data;
}

const permissions: Command[] = ["ping"];
const key = known(await client.POST("/api/agents/keys", { body: { name: "from typescript", permissions } }));
const agents = known(await client.GET("/api/agents", { params: { query: { limit: 10 } } }));
const agent = agents.items.find(({ id }) => id === process.env["AGENT"]);
if (agent === undefined) throw new Error("the agent is missing");
const job = known(await client.POST("/api/jobs", {
  body: { script: "greet", target: { ids: [agent.id] }, rollout: { wave_size: "50%", max_failures: 1 } },
}));
const page = known(await client.GET("/api/jobs/{id}/executions", { params: { path: { id: job.id } } }));
const id = page.items[0]?.id ?? "";
const execution = known(await client.GET("/api/executions/{id}", {
  params: { path: { id }, query: { wait_ms: 60000 } },
}));
const state: components["schemas"]["CommandState"] = execution.state;
const code: number | null | undefined = execution.exit_code;
const output = await client.GET("/api/executions/{id}/output", { params: { path: { id } }, parseAs: "text" });
const removed = await client.DELETE("/api/agents/keys/{id}", { params: { path: { id: key.id } } });
if (removed.response.status !== 204) throw new Error(`status ${removed.response.status}`);
console.log(state, code, String(output.data).trim());
