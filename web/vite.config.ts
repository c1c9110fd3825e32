import { svelte } from '@sveltejs/vite-plugin-svelte';
import tailwindcss from '@tailwindcss/vite';
import { defineConfig } from 'vitest/config';

// `npm run dev` shows changes at once; the API is that of a running server.
const server = process.env.MUSTER_SERVER_URL ?? 'http://127.0.0.1:8080';

export default defineConfig({
  plugins: [svelte(), tailwindcss()],
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
