import { api, data, readAll, type Schemas } from '../api/client';

export type LibraryScript = Schemas['LibraryScriptView'];

/** All scripts of the library, by folder and name. */
export const libraryQuery = (isEnabled = true) => ({
  queryKey: ['scripts', 'all'],
  enabled: isEnabled,
  queryFn: async (): Promise<LibraryScript[]> => {
    const scripts = await readAll((cursor) => data(api.GET('/api/scripts', { params: { query: { cursor, limit: 500 } } })), 5_000);
    return scripts.sort((a, b) => a.folder.localeCompare(b.folder) || a.name.localeCompare(b.name));
  },
});

export const scriptQuery = (id: string | undefined) => ({
  queryKey: ['scripts', id],
  enabled: id !== undefined,
  queryFn: () => data(api.GET('/api/scripts/{id}', { params: { path: { id: id! } } })),
});

export const versionQuery = (id: string | undefined, version: number | undefined) => ({
  queryKey: ['scripts', id, 'version', version],
  enabled: id !== undefined && version !== undefined,
  // Versions never change; which one is current does.
  queryFn: () => data(api.GET('/api/scripts/{id}/versions/{version}', { params: { path: { id: id!, version: version! } } })),
});

const PREFIX = 'library:';
export const isLibrary = (script: string): boolean => script.startsWith(PREFIX);
export const nameInJobs = (name: string, version?: number): string => `${PREFIX}${name}${version === undefined ? '' : `@${version}`}`;

/** The name and the version that `library:NAME@VERSION` names. */
export function parseName(script: string): { name: string; version?: number } | undefined {
  const match = /^library:([^@]+)(?:@(\d+))?$/.exec(script);
  return match ? { name: match[1]!, ...(match[2] ? { version: Number(match[2]) } : {}) } : undefined;
}
