/** Lists that the server gives in pages: what an infinite query of any of them needs. */
interface Page<T> {
  items: T[];
  next_cursor?: string | null;
}
export const byCursor = {
  initialPageParam: undefined as string | undefined,
  getNextPageParam: (page: { next_cursor?: string | null }) => page.next_cursor ?? undefined,
};
export interface Cursor {
  pageParam: string | undefined;
}
export const itemsOf = <T>(read: { pages: Page<T>[] } | undefined): T[] => read?.pages.flatMap((page) => page.items) ?? [];
