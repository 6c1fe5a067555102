// How long a report takes to open: node opens.mjs FILE

import { resolve } from 'node:path';
import { chromium } from 'playwright-core';

const file = resolve(process.argv[2]);
const times = [];
for (let run = 0; run < 7; run++) {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'] });
  const page = await browser.newPage({ viewport: { width: 1360, height: 860 } });
  const start = performance.now();
  await page.goto(`file://${file}`);
  // The second frame: the first has been painted.
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  times.push(Math.round(performance.now() - start));
  if (run === 0) console.log(await page.evaluate(() => `${rows.length} programs on ${kernels.length} kernels`));
  await browser.close();
}
times.sort((a, b) => a - b);
console.log(`until it is painted: median ${times[3]} ms, ${times[0]} to ${times[6]} ms`);
