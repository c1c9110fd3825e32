import { svelte } from '@sveltejs/vite-plugin-svelte';
import tailwindcss from '@tailwindcss/vite';
import type { Plugin } from 'vite';
import { defineConfig } from 'vitest/config';

// `npm run dev` shows changes at once; the API is that of a running server.
const server = process.env.MUSTER_SERVER_URL ?? 'http://127.0.0.1:8080';

/** Components of bits-ui have this inline style, which the policy of the page forbids; a class does the same. */
const withoutInlineStyles: Plugin = {
  name: 'without-inline-styles',
  enforce: 'pre',
  transform(code, id) {
    if (!/bits-ui.*\.svelte$/.test(id) || !code.includes('style="')) return undefined;
    return code.replaceAll('style="display: contents;"', 'class="contents"');
  },
};

export default defineConfig({
  plugins: [withoutInlineStyles, svelte(), tailwindcss()],
  build: {
    target: 'es2023',
    // The policy of the page allows no inline content.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: { proxy: { '/api': { target: server, changeOrigin: false } } },
  test: { include: ['src/**/*.test.ts'], environment: 'node' },
});
