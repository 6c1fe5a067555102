
'use strict';

// The data of the page: a row for each program, a column for each kernel, by release.

/** Signs of verdicts, then of what was not judged and of what is not shown. */
const SIGNS = ['·', '~', '?', 'U', 'A', 'S', '×', '–', ''];
const NOT_JUDGED = 7;
const NOT_SHOWN = 8;
/** What is worse hides what is better where cells share a pixel. */
const RANK = [2, 3, 4, 5, 6, 7, 8, 1, 0];
const FAILS = 4;

const parsed = (id) => JSON.parse(document.getElementById(id).textContent);
const report = parsed('report');
const objects = parsed('objects').slice(0, -1);
const kernels = report.kernels;
const causes = report.causes;

/** Text as it may be shown: what cannot be seen or turns other text around stands there by its number. */
function shown(text) {
  return String(text).replace(
    /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g,
    (it) => `\\u{${it.codePointAt(0).toString(16)}}`,
  );
}

/** An element. Whatever is text in it is text. */
function el(name, attributes, ...children) {
  const it = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === 'onclick') it.addEventListener('click', value);
    else if (key === 'class') it.className = value;
    else if (value === true) it.setAttribute(key, '');
    else if (value !== false && value != null) it.setAttribute(key, shown(value));
  }
  for (const child of children.flat()) {
    if (child != null && child !== false) it.append(child instanceof Node ? child : shown(child));
  }
  return it;
}

const verdictName = (code) => (code === NOT_JUDGED ? 'not judged' : code === NOT_SHOWN ? 'not shown' : report.verdicts[code].name);

/** The sign of a verdict, for eyes only: its name stands beside it. */
function sign(code, round) {
  const name = code < NOT_JUDGED ? report.verdicts[code].name : 'none';
  return el('span', { class: `sign ${name}${round ? ' round' : ''}`, 'aria-hidden': 'true' }, SIGNS[code]);
}

const plural = (count, noun) => `${count.toLocaleString('en')} ${noun}${count === 1 ? '' : 's'}`;

/** Calls `visit(number, start, end)` for each run. */
function eachRun(runs, visit) {
  let at = 0;
  for (let it = 0; it < runs.length; it += 2) {
    visit(runs[it], at, at + runs[it + 1]);
    at += runs[it + 1];
  }
}

/** The number that runs have at a place. */
function atRun(runs, place) {
  let at = 0;
  for (let it = 0; it < runs.length; it += 2) {
    at += runs[it + 1];
    if (place < at) return runs[it];
  }
  return -1;
}

/** A word as a shell takes it for one word, whatever is in it. */
function quoted(word) {
  if (/^[\w\-+=:,./@%]+$/.test(word)) return word;
  if (!/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/.test(word)) return `'${word.replaceAll("'", "'\\''")}'`;
  const bytes = Array.from(new TextEncoder().encode(word));
  return `$'${bytes.map((it) => (it > 32 && it < 127 && it !== 39 && it !== 92 ? String.fromCharCode(it) : `\\x${it.toString(16).padStart(2, '0')}`)).join('')}'`;
}

const causeKey = (it) => `${it.v ?? it.verdict} ${it.code} ${it.about}`;
const causeNumber = new Map(causes.map((it, number) => [causeKey(it), number]));

/** Rows of the map, and all verdicts: `grid[row * kernels.length + column]`. */
const rows = [];
for (const [number, object] of objects.entries()) {
  object.short = object.name.split('/').pop();
  const causeOf = object.findings.map((it) => (it.v > 0 ? causeNumber.get(causeKey(it)) : undefined));
  object.causesOf = object.cells.map((it) => new Set((it.f || []).map((at) => causeOf[at]).filter((at) => at !== undefined)));
  const causesOfRow = object.rows.map((runs) => {
    const all = new Set();
    eachRun(runs, (cell) => cell >= 0 && object.causesOf[cell].forEach((it) => all.add(it)));
    return all;
  });
  for (const program of object.programs) {
    const runs = object.rows[program.row];
    rows.push({ object, objectNumber: number, program, runs, causes: causesOfRow[program.row], text: null });
  }
}
const grid = new Uint8Array(rows.length * kernels.length);
for (const [number, row] of rows.entries()) {
  const start = number * kernels.length;
  row.worst = NOT_SHOWN;
  row.bad = 0;
  eachRun(row.runs, (cell, from, to) => {
    const code = cell >= 0 ? row.object.cells[cell].v : cell === -1 ? NOT_SHOWN : NOT_JUDGED;
    grid.fill(code, start + from, start + to);
    if (RANK[code] > RANK[row.worst]) row.worst = code;
    if (code > 0 && code < NOT_JUDGED) row.bad += to - from;
  });
}

/** What a row can be found by; made when it is first looked for. */
function rowText(row) {
  row.text ??= {
    program: `${row.program.name} ${row.program.section}`.toLowerCase(),
    object: row.object.name.toLowerCase(),
    cause: Array.from(row.causes, (it) => `${causes[it].code} ${causes[it].about} ${report.verdicts[causes[it].verdict].name}`).join('\n').toLowerCase(),
  };
  return row.text;
}
const kernelText = kernels.map((it) => [it.name, it.release, it.distro, it.arch, it.flavour].join(' ').toLowerCase());

/** Rows and columns that a filter leaves. Terms without a prefix look at rows, and at kernels if no row has them. */
function filtered(text, { failing, cause }) {
  let left = Array.from(rows.keys()).filter((it) => rows[it].worst !== NOT_SHOWN);
  let columns = Array.from(kernels.keys());
  if (failing) left = left.filter((it) => rows[it].worst >= FAILS && rows[it].worst < NOT_JUDGED);
  if (cause != null) left = left.filter((it) => rows[it].causes.has(cause));
  for (const term of text.toLowerCase().split(/\s+/).filter(Boolean)) {
    const [, prefix, rest] = /^(?:(program|object|kernel|cause):)?(.*)$/s.exec(term);
    if (prefix === 'kernel') {
      columns = columns.filter((it) => kernelText[it].includes(rest));
    } else if (prefix) {
      left = left.filter((it) => rowText(rows[it])[prefix].includes(rest));
    } else {
      const has = (it) => Object.values(rowText(rows[it])).some((part) => part.includes(rest));
      const inRows = left.filter(has);
      const inColumns = columns.filter((it) => kernelText[it].includes(rest));
      if (inRows.length || !inColumns.length) left = inRows;
      else columns = inColumns;
    }
  }
  return { rows: left, columns };
}
