// Uses HTML reports as people do: node report.mjs BTFLEET SAMPLES [SCREENSHOTS]

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const [btfleet, samples, screenshots] = process.argv.slice(2);
const dir = mkdtempSync(join(tmpdir(), 'btfleet-browser-'));
const HOSTILE = `a<!--<script>"' \u202e\u2028<img src=x onerror=alert(1)>.bpf.o`;

/** A report on the kernels of the samples, with these arguments. */
function report(name, ...given) {
  const file = join(dir, name);
  const args = ['check', ...given, '--kernels', 'kernels', '--report', file, '--fail-on', 'never'];
  try {
    execFileSync(btfleet, args, { cwd: samples, stdio: ['ignore', 'ignore', 'pipe'] });
  } catch (error) {
    // 3: objects and kernels of different byte order are not judged together.
    assert.equal(error.status, 3, String(error.stderr));
  }
  return `file://${file}`;
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});

/** A page that fails the test if anything goes wrong in it, or wants something of the network. */
async function open(url, options = {}) {
  const page = await browser.newPage({ viewport: { width: 1360, height: 860 }, ...options });
  page.wrong = [];
  page.on('pageerror', (error) => page.wrong.push(String(error)));
  page.on('console', (message) => page.wrong.push(message.text()));
  page.on('dialog', (dialog) => { page.wrong.push('a dialog'); dialog.dismiss(); });
  page.on('request', (request) => request.url() !== url && page.wrong.push(request.url()));
  await page.goto(url);
  await page.waitForFunction(() => document.getElementById('shown').textContent !== '');
  return page;
}

/** The middle of the cell of a program on a kernel. */
const cellAt = (page, program, release) =>
  page.evaluate(([program, release]) => {
    const row = map.rows.findIndex((it) => rows[it].program.name === program);
    const column = map.columns.findIndex((it) => kernels[it].release.startsWith(release));
    return { x: map.gutter + (column + 0.5) * map.cellW - map.x, y: map.head + (row + 0.5) * map.cellH - map.y };
  }, [program, release]);

const shows = async (page, selector, text) => {
  const all = await page.textContent(selector);
  assert.ok(all.includes(text), `${selector} lacks ${JSON.stringify(text)}: ${all.slice(0, 2000)}`);
};

/** What a cell shows when it is clicked, causes, filters and keys. */
async function useIt(page) {
  await shows(page, '#counts', 'fail-reloc');
  await shows(page, '#shown', '92 programs × 3 kernels');

  await page.hover('#map', { position: await cellAt(page, 'access_time', '7.3') });
  await page.fill('#filter', 'unguarded_read.bpf');
  await page.waitForFunction(() => map.rows.length < 20);
  await page.hover('#map', { position: await cellAt(page, 'access_time', '7.3') });
  await shows(page, '#tip', 'access_time in unguarded_read.bpf.o');
  await shows(page, '#tip', 'fail-reloc');

  await page.click('#map', { position: await cellAt(page, 'access_time', '7.3') });
  for (const text of [
    'access_time on 7.3.4+deb13-cloud-amd64', 'inode.i_atime.tv_sec', 'no-field', 'The kernel\'s type has no member of that name.',
    './unguarded_read.bpf.c:61', 'btfleet explain objects/unguarded_read.bpf.o --program access_time --kernel kernels/7.3.4+deb13-cloud-amd64.btf.zst',
    'Here: no i_atime.tv_sec. On 5.10.0-46-cloud-amd64: i_atime.tv_sec at byte 88, 8 bytes.', 'time64_t i_atime_sec',
  ]) await shows(page, '#details', text);
  assert.equal(await page.locator('#details .side').count(), 2);
  assert.match(await page.textContent('.side:nth-child(2) .members .read'), /struct timespec64 i_atime/);
  assert.ok((await page.locator('.side:nth-child(2) .bytes i.on').count()) >= 8);
  await page.keyboard.press('Escape');
  assert.ok(await page.isHidden('#details'));

  // By keys alone: the filter, the next failure, its neighbour, and what is wrong there.
  await page.keyboard.press('/');
  await page.keyboard.press('Control+A');
  await page.keyboard.type('kernel:7.3 program:confirmed');
  await page.waitForFunction(() => map.columns.length === 1);
  await page.keyboard.press('Escape');
  await page.keyboard.press('j');
  await shows(page, '#live', 'confirmed in conntrack_id.bpf.o on 7.3.4+deb13-cloud-amd64: fail-reloc, ambiguous-value nf_conn');
  await page.focus('#map');
  await page.keyboard.press('Enter');
  await shows(page, '#details', 'candidates disagree');
  await page.keyboard.press('Escape');
  await page.fill('#filter', '');
  await page.waitForFunction(() => map.columns.length === 3);
  const before = await page.evaluate(() => map.selected);
  await page.focus('#map');
  await page.keyboard.press('ArrowLeft');
  await page.keyboard.press('ArrowDown');
  const after = await page.evaluate(() => map.selected);
  assert.deepEqual(after, { row: before.row + 1, column: before.column - 1 });

  // Zoom, and back.
  const height = () => page.evaluate(() => map.cellH);
  const fitted = await height();
  await page.keyboard.press('+');
  assert.ok((await height()) > fitted);
  await page.keyboard.press('0');
  assert.equal(await height(), fitted);

  const cause = page.locator('#causes button', { hasText: 'inode.i_atime.tv_sec' });
  await cause.click();
  assert.equal(await cause.getAttribute('aria-pressed'), 'true');
  assert.deepEqual(await page.evaluate(() => map.rows.map((it) => rows[it].program.name)), ['access_time', 'access_time']);
  await cause.click();
  await page.check('#failing');
  assert.ok(await page.evaluate(() => map.rows.every((it) => rows[it].worst >= FAILS)));
  await page.uncheck('#failing');
  await page.fill('#filter', 'nothing-is-called-so');
  await page.waitForFunction(() => map.rows.length === 0);
  await page.fill('#filter', '');
  await page.waitForFunction(() => map.rows.length === 92);
  await shows(page, '#table', 'unguarded_read.bpf.o');
}

/** What verdicts come to on hosts: as a whole, for each cause, and on which kernels; their names are anybody's too. */
async function hosts() {
  const list = join(dir, 'hosts.csv');
  writeFileSync(list, 'kernel,arch,count\n5.10.0-46-cloud-amd64,amd64,40000\n7.3.4+deb13-cloud-amd64,amd64,1200\n<img/src=x/onerror=alert(1)>,,10\n');
  const page = await open(report('hosts.html', 'objects/unguarded_read.bpf.o', '--program', 'access_time', '--inventory', list));
  await shows(page, '#hosts', '97.0 % of 41,210 hosts ok');
  await page.click('#hosts summary >> nth=0');
  assert.ok(await page.isVisible('#hosts li >> text=7.3.4+deb13-cloud-amd64 1,200 hosts'));
  await page.click('#hosts summary >> nth=1');
  await shows(page, '#hosts', '10 hosts not known, 1 kernel');
  await shows(page, '#hosts', '<img/src=x/onerror=alert(1)> 10 hosts: like none of the kernels');
  await shows(page, '#causes', 'since 7.3 (1 of 2), 1,200 hosts');
  await page.click('#map', { position: await cellAt(page, 'access_time', '7.3') });
  await shows(page, '#details', ', 1,200 hosts');
  if (screenshots) await page.screenshot({ path: join(screenshots, 'hosts.png') });
  assert.deepEqual(page.wrong, []);
  await page.close();
}

/** Names with markup in them are shown and do nothing. */
async function hostile() {
  const bytes = readFileSync(join(samples, 'objects/unguarded_read.bpf.o'));
  const replace = (from, to) => {
    assert.equal(from.length, to.length);
    for (let at = bytes.indexOf(from); at >= 0; at = bytes.indexOf(from, at + 1)) bytes.write(to, at, 'latin1');
  };
  replace('access_time', '<img src=x>');
  replace('i_atime', '<b>\'"\n\u0001');
  writeFileSync(join(dir, HOSTILE), bytes);
  const page = await open(report('hostile.html', join(dir, HOSTILE)));
  const at = await cellAt(page, '<img src=x>', '7.3');
  await page.hover('#map', { position: at });
  await shows(page, '#tip', '<img src=x> in a<!--<script>"\' \\u{202e}\\u{2028}<img src=x onerror=alert(1)>.bpf.o');
  await page.click('#map', { position: at });
  await shows(page, '#details', 'inode.<b>\'"\\u{a}\\u{1}.tv_sec');
  assert.equal(await page.locator('img, #details b b, #causes b').count(), 0);
  assert.equal(await page.locator('script').count(), 3);
  assert.deepEqual(page.wrong, []);
  // The policy keeps out what got in all the same.
  const ran = await page.evaluate(() => {
    const script = document.createElement('script');
    script.textContent = 'globalThis.intruder = true';
    document.body.append(script);
    return globalThis.intruder === true;
  });
  assert.equal(ran, false);
  await page.close();
}

try {
  const url = report('fleet.html', 'objects');
  for (const colorScheme of ['light', 'dark']) {
    const page = await open(url, { colorScheme });
    await useIt(page);
    if (screenshots) {
      await page.evaluate(() => { map.selected = null; document.activeElement.blur(); byId('causes').scrollTop = 0; scrollTo(0, 0); map.draw(); });
      await page.mouse.move(0, 0);
      await page.screenshot({ path: join(screenshots, `report-${colorScheme}.png`) });
      await page.fill('#filter', 'unguarded_read.bpf');
      await page.waitForFunction(() => map.rows.length < 20);
      await page.click('#map', { position: await cellAt(page, 'access_time', '7.3') });
      await page.screenshot({ path: join(screenshots, `details-${colorScheme}.png`) });
    }
    assert.deepEqual(page.wrong, []);
    await page.close();
  }

  // On a telephone, nothing is wider than the page; on paper, there are causes and the table.
  const phone = await open(url, { viewport: { width: 360, height: 740 }, hasTouch: true });
  assert.ok(await phone.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
  if (screenshots) await phone.screenshot({ path: join(screenshots, 'phone.png') });
  await phone.emulateMedia({ media: 'print' });
  assert.ok(await phone.isHidden('#map-panel'));
  assert.ok(await phone.isVisible('#causes') && await phone.isVisible('#table'));
  assert.deepEqual(phone.wrong, []);
  await phone.close();

  await hosts();
  await hostile();
  console.error('the HTML report in a browser: as it should be');
} finally {
  await browser.close();
  rmSync(dir, { recursive: true });
}
