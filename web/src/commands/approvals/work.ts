/** Fields of a request that its page shows by themselves. */
const SHOWN = ['script', 'argv', 'parameters', 'secret_parameters', 'timeout_ms', 'version', 'stdin_bytes'];

/** Every other field, as text: who approves sees all of it, also what a newer server adds. */
export const otherData = (data: object): [name: string, value: string][] =>
  Object.entries(data)
    .filter(([name, value]) => !SHOWN.includes(name) && value !== null && value !== undefined)
    .map(([name, value]) => [name, typeof value === 'string' ? value : JSON.stringify(value)]);
