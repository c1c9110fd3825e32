/** True if the address in a line leads only to the machine that it is pasted on. */
export function isLocalOnly(line: string): boolean {
  const host = /https?:\/\/(\[[^\]]*\]|[^/:\s]+)/.exec(line)?.[1];
  return host !== undefined && /^(localhost|127(\.\d+){3}|\[::1\])$/i.test(host);
}
