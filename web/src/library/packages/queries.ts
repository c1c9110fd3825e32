import { api, data, readAll, type Schemas } from '../../api/client';

export type Package = Schemas['PackageView'];

/** Most packages of a tenant, with all their versions. */
const MAX_PACKAGES = 1_000;

/** All versions of all packages, newest first. */
export const packagesQuery = (isEnabled = true) => ({
  queryKey: ['packages', 'all'],
  enabled: isEnabled,
  queryFn: (): Promise<Package[]> => readAll((cursor) => data(api.GET('/api/packages', { params: { query: { cursor, limit: 500 } } })), MAX_PACKAGES),
});

/** A package and its versions, of which the first was uploaded last. */
export interface PackageVersions {
  name: string;
  newest: Package;
  versions: Package[];
}

/** Packages by name; `packages` are newest first. */
export function byName(packages: readonly Package[]): PackageVersions[] {
  const found = new Map<string, PackageVersions>();
  for (const item of packages) {
    const entry = found.get(item.name);
    if (entry) entry.versions.push(item);
    else found.set(item.name, { name: item.name, newest: item, versions: [item] });
  }
  return [...found.values()].sort((a, b) => a.name.localeCompare(b.name));
}

const PREFIX = 'package:';
export const packageInJobs = (name: string, version?: string): string => `${PREFIX}${name}${version === undefined ? '' : `@${version}`}`;

/** The name and the version that `package:NAME@VERSION` names. */
export function parsePackage(script: string): { name: string; version?: string } | undefined {
  const match = /^package:([^@]+)(?:@([^@]+))?$/.exec(script);
  return match ? { name: match[1]!, ...(match[2] ? { version: match[2] } : {}) } : undefined;
}

/** Where the dashboard shows the version that `package:NAME@VERSION` names. */
export function packageAddress(reference: string): string {
  const named = parsePackage(reference);
  return `/library/packages${named ? `/${encodeURIComponent(named.name)}` : ''}${named?.version ? `?version=${encodeURIComponent(named.version)}` : ''}`;
}

/** The package that runs for this script of a job: the version that it names, or the one that was uploaded last. */
export function packageOf(packages: readonly Package[], script: string): Package | undefined {
  const named = parsePackage(script);
  return named && packages.find((item) => item.name === named.name && (named.version === undefined || item.version === named.version));
}
