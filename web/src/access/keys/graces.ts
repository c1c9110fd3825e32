/** How long the secret before stays valid, in milliseconds. */
export const GRACES = [0, 3_600_000, 86_400_000, 604_800_000] as const;
