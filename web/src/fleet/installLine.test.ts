import { expect, test } from 'vitest';
import { isLocalOnly } from './installLine';

test('an address that leads only to the own machine is found out', () => {
  const line = (host: string): string => `curl -fsSL http://${host}/install/deploy.sh | sudo sh -s -- --key mst_agent_1`;
  for (const host of ['127.0.0.1:8080', '127.1.2.3', 'localhost:43973', 'LOCALHOST', '[::1]:8080']) expect(isLocalOnly(line(host)), host).toBe(true);
  for (const host of ['muster.example', '10.0.0.7:8080', '192.168.127.1', 'localhost.example', '[2001:db8::1]', '127.example']) expect(isLocalOnly(line(host)), host).toBe(false);
  expect(isLocalOnly('mst_agent_1')).toBe(false);
});
