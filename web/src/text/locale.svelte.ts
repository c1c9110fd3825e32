/** The language in which numbers are written: that of the page. */
export const locale = $state({ current: 'en' });
