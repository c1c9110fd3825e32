import { defineConfig } from '@playwright/test';

// tests/tests/end_to_end/operations/dashboard starts the server and the agents, and then this.
export default defineConfig({
  testDir: 'tests',
  outputDir: process.env.MUSTER_RESULTS ?? 'test-results',
  // The specs of one run share a server: each may need what the one before made.
  workers: 1,
  fullyParallel: false,
  retries: 0,
  forbidOnly: true,
  timeout: 60_000,
  expect: { timeout: 20_000 },
  reporter: 'list',
  use: {
    baseURL: process.env.MUSTER_URL,
    // A server that issues its certificate itself: the browser does not know its authority.
    ignoreHTTPSErrors: process.env.MUSTER_URL?.startsWith('https:') ?? false,
    browserName: 'chromium',
    locale: 'en-US',
    timezoneId: 'Europe/Berlin',
    contextOptions: { reducedMotion: 'reduce' },
    viewport: { width: 1440, height: 900 },
    screenshot: 'only-on-failure',
    launchOptions: {
      executablePath: process.env.MUSTER_CHROMIUM ?? '/usr/bin/chromium',
      // Chromium's sandbox needs user namespaces, which containers and root often have not.
      // Without a graphics card, Debian's flags let a renderer in software draw what the processor draws quicker itself.
      args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'],
    },
  },
});
