// A picture of what `check` shows in a terminal: node terminal.mjs BTFLEET SAMPLES PNG

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chromium } from 'playwright-core';

const [btfleet, samples, file] = process.argv.slice(2);
const ARGS = ['check', 'objects/unguarded_read.bpf.o', '-k', 'kernels', '--where', 'arch=amd64'];

// What Xterm and its relatives show, on dark.
const COLOURS = { 31: '#ff6b68', 32: '#7fc97f', 33: '#e5c07b', 34: '#61afef', 35: '#c678dd', 36: '#56b6c2' };

const escaped = (text) => text.replace(/[&<>]/g, (it) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[it]);

/** Text with colours by escape sequences, as HTML. */
function html(text) {
  let style = {};
  const span = (part) => {
    const css = Object.entries(style).map(([key, value]) => `${key}:${value}`).join(';');
    return css ? `<span style="${css}">${escaped(part)}</span>` : escaped(part);
  };
  // Every second part is the numbers of a sequence.
  const parts = text.split(/\x1b\[([0-9;]*)m/);
  return parts.map((part, at) => {
    if (at % 2 === 0) return part && span(part);
    for (const number of part.split(';').map(Number)) {
      if (number === 0) style = {};
      else if (number === 1) style['font-weight'] = 'bold';
      else if (number === 2) style.opacity = '0.6';
      else if (number === 4) style['text-decoration'] = 'underline';
      else style.color = COLOURS[number] ?? assert.fail(`colour ${number} is not known`);
    }
    return '';
  }).join('');
}

const run = spawnSync(btfleet, ['--color', 'always', ...ARGS], { cwd: samples, encoding: 'utf8' });
assert.equal(run.status, 1, run.stderr);
const page = `<!doctype html><meta charset="utf-8"><style>
  body { margin: 0; display: inline-block; background: #1d1f21; color: #d8dbe0 }
  /* Seven pixels for each character: sharp, and small as a file. */
  pre { margin: 0; padding: 14px 18px; font: 11.628px/17px "DejaVu Sans Mono", monospace }
</style><pre><b>$</b> btfleet ${escaped(ARGS.join(' '))}\n${html(run.stdout.trimEnd())}</pre>`;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
try {
  const tab = await browser.newPage({ viewport: { width: 1400, height: 400 } });
  await tab.setContent(page);
  await tab.locator('body').screenshot({ path: file });
} finally {
  await browser.close();
}
