import base from '../playwright.config';
import { defineConfig } from '@playwright/test';

// scripts/soak.mjs starts the server and the fleet, and then this.
export default defineConfig({ ...base, testDir: '.', timeout: 900_000, expect: { timeout: 120_000 } });
