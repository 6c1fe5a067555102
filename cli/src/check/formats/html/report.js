
// The page around the map: counts, causes, filter, details, keys.

const byId = (id) => document.getElementById(id);
const state = { failing: false, cause: null, causesShown: 60 };
const isJudged = (code) => code < NOT_JUDGED;

function fillHead() {
  const programs = plural(rows.length, 'program');
  const range = kernels.length > 1 ? `, ${kernels[0].release} to ${kernels[kernels.length - 1].release}` : '';
  byId('what').append(shown(`${plural(objects.length, 'object')} with ${programs} on ${plural(kernels.length, 'kernel')}${range}`));
  document.title = `btfleet: ${programs} on ${plural(kernels.length, 'kernel')}`;
  for (const [code, count] of report.counts) {
    byId('counts').append(el('li', { title: report.verdicts[code].means }, sign(code, true), el('b', {}, count.toLocaleString('en')), report.verdicts[code].name));
  }
  for (const [why, count] of Object.entries(report.not_judged)) {
    byId('counts').append(el('li', {}, sign(NOT_JUDGED, true), el('b', {}, count.toLocaleString('en')), `not judged: ${why}`));
  }
  if (report.hosts) fillHosts(report.hosts);
  if (report.defects.length) {
    const most = 200;
    const lines = report.defects.slice(0, most).map((it) => el('p', { class: 'remark' }, it));
    if (report.defects.length > most) lines.push(el('p', { class: 'remark' }, `… and ${report.defects.length - most} more`));
    byId('remarks').append(el('details', {}, el('summary', {}, `${plural(report.defects.length, 'remark')} on inputs${report.complete ? '' : ': not everything could be read and judged'}`), lines));
  }
  const needs = report.judges_needs ? ', attach targets, kernel symbols' : '';
  const not = report.judges_needs ? '' : 'attach targets, kernel symbols, ';
  byId('judged').append(
    shown(`Judged: CO-RE relocations, whether poison is reached${needs}. Not judged: ${not}the verifier's other rules, helpers, map types, privileges. btfleet ${report.version}, answers of ${report.models}.`),
  );
  for (const code of [...report.verdicts.keys(), NOT_JUDGED]) {
    byId('legend').append(el('li', { title: code < NOT_JUDGED ? report.verdicts[code].means : '' }, sign(code), verdictName(code)));
  }
}

/** What it comes to on hosts; the kernels of those that are not fine can be opened. */
function fillHosts(hosts) {
  const groups = hosts.groups.map((group) => {
    const name = group.verdict == null ? 'not known' : report.verdicts[group.verdict].name;
    const head = el('summary', {}, sign(group.verdict ?? NOT_JUDGED), el('b', {}, plural(group.hosts, 'host')), ` ${name}, ${plural(group.kernels.length + group.more, 'kernel')}`);
    const lines = group.kernels.map(([release, count, why]) => el('li', {}, el('span', { class: 'mono' }, release), ` ${plural(count, 'host')}${why ? `: ${why}` : ''}`));
    if (group.more) lines.push(el('li', { class: 'dim' }, `… and ${group.more.toLocaleString('en')} more kernels`));
    return el('details', {}, head, el('ul', {}, lines));
  });
  byId('hosts').append(el('p', {}, el('b', {}, hosts.sentence)), ...groups);
  byId('hosts').hidden = false;
}

function causeButton(cause, number) {
  const kinds = cause.kinds.length ? ` (${cause.kinds.join(', ')})` : '';
  const optional = cause.optional ? ', only in programs that need not load' : '';
  return el('li', {}, el('button', { type: 'button', 'data-cause': number, 'aria-pressed': 'false', onclick: () => chooseCause(number) },
    sign(cause.verdict),
    el('span', { class: 'about mono' }, cause.about || cause.code),
    el('span', { class: 'rest' }, `${cause.code}${kinds} · ${plural(cause.programs, 'program')} · ${cause.on}${optional}`),
    el('span', { class: 'rest' }, cause.message)));
}

function fillCauses() {
  const list = byId('causes');
  list.replaceChildren(...causes.slice(0, state.causesShown).map(causeButton));
  if (!causes.length) list.append(el('li', { class: 'dim' }, 'Nothing: everything that was judged passes.'));
  const left = causes.length - state.causesShown;
  byId('more-causes').hidden = left <= 0;
  byId('more-causes').textContent = `${plural(left, 'more cause')}`;
  markCause();
}

function markCause() {
  for (const it of byId('causes').querySelectorAll('button')) {
    it.setAttribute('aria-pressed', String(Number(it.dataset.cause) === state.cause));
  }
}

function chooseCause(number) {
  state.cause = state.cause === number ? null : number;
  markCause();
  update();
}

/** Whether cells have a cause, found out for a row at once: a map of many cells asks often. */
function litBy(cause) {
  if (cause == null) return null;
  let known = -1;
  const lit = new Uint8Array(kernels.length);
  return (row, column) => {
    if (row !== known) {
      known = row;
      lit.fill(0);
      eachRun(rows[row].runs, (cell, from, to) => cell >= 0 && rows[row].object.causesOf[cell].has(cause) && lit.fill(1, from, to));
    }
    return lit[column] === 1;
  };
}

function update() {
  const left = filtered(byId('filter').value, state);
  map.show(left.rows, left.columns, litBy(state.cause));
  const cause = state.cause == null ? '' : `, with ${causes[state.cause].code} ${causes[state.cause].about}`;
  byId('shown').textContent = shown(`${plural(left.rows.length, 'program')} × ${plural(left.columns.length, 'kernel')}${cause}`);
}

/** The worst programs with a column for each series, for those who read or print rather than look. */
function fillTable() {
  const most = 100;
  const bad = rows.filter((it) => it.bad > 0).sort((a, b) => RANK[b.worst] - RANK[a.worst] || b.bad - a.bad);
  const table = byId('table');
  if (!bad.length) return table.replaceChildren(el('caption', {}, 'Every program is fine on every kernel on which it was judged.'));
  const head = el('tr', {}, el('th', { scope: 'col' }, 'program'), el('th', { scope: 'col' }, 'object'), report.series.map(([label, count]) => el('th', { scope: 'col' }, label, count > 1 ? el('span', { class: 'dim' }, ` ×${count}`) : '')));
  const body = bad.slice(0, most).map((row) => {
    const start = rows.indexOf(row) * kernels.length;
    let at = 0;
    const cells = report.series.map(([, count]) => {
      const codes = grid.subarray(start + at, start + at + count);
      at += count;
      const worst = codes.reduce((a, b) => (RANK[b] > RANK[a] ? b : a), NOT_SHOWN);
      const same = codes.filter((it) => it === worst).length;
      return el('td', { class: 'cell' }, sign(worst), isJudged(worst) ? report.verdicts[worst].name : '', same < count && isJudged(worst) ? ` ×${same}` : '');
    });
    return el('tr', {}, el('th', { scope: 'row', class: 'mono' }, row.program.name), el('td', {}, row.object.short), cells);
  });
  table.replaceChildren(el('thead', {}, head), el('tbody', {}, body));
  if (bad.length > most) table.append(el('caption', {}, `The worst ${most} of ${bad.length}.`));
}

function kernelTitle(kernel) {
  const facts = [kernel.distro, kernel.arch, kernel.flavour].filter(Boolean).join(', ');
  const hosts = kernel.hosts ? `, ${plural(kernel.hosts, 'host')}` : '';
  return `${kernel.release}${facts ? ` (${facts})` : ''}${hosts}`;
}

/** The command that explains a program on a kernel. */
function explainCommand(row, kernel) {
  return `btfleet explain ${quoted(row.object.name)} --program ${quoted(row.program.name)} --kernel ${quoted(kernel.arg || kernel.name)}${report.explain}`;
}

function command(text) {
  const code = el('code', {}, text);
  const button = el('button', { type: 'button', onclick: () => {
    const select = () => getSelection().selectAllChildren(code);
    const done = () => (button.textContent = 'Copied');
    if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, select);
    else select();
  } }, 'Copy');
  return el('div', { class: 'command' }, code, button);
}

function findingBox(finding, row, column) {
  const [means, advice] = report.codes[finding.code] || ['', ''];
  const line = (word, ...text) => [el('dt', {}, word), el('dd', {}, text)];
  const source = finding.file ? `${finding.file}:${finding.line}` : '';
  const list = el('dl', {}, line('what', finding.message));
  if (means) list.append(...line('means', means));
  if (report.effects[finding.effect]) list.append(...line('effect', el('b', {}, finding.effect), `: ${report.effects[finding.effect]}`));
  if (advice && finding.v > 0) list.append(...line('what to do', advice));
  if (source) list.append(...line('source', el('code', {}, source)));
  if (finding.off != null) list.append(...line('instruction', `byte ${finding.off} of its section`));
  if (finding.accepted) list.append(...line('accepted', `until ${finding.accepted.until}${finding.accepted.expired ? ' (expired)' : ''}: ${finding.accepted.why}`));
  const box = el('article', { class: 'finding' }, el('h3', {}, sign(finding.v), el('code', {}, finding.about), el('span', { class: 'dim' }, finding.code)), list);
  if (finding.v > 0 && finding.in) {
    const number = rows.indexOf(row) * kernels.length;
    const view = layoutView(finding.in, column, (it) => grid[number + it] <= 1, (it) => isJudged(grid[number + it]));
    if (view) box.append(view);
  }
  return box;
}

/** Kernels on which the program comes to the same, told by their number and ends. */
function alike(row, cell) {
  const same = [];
  eachRun(row.runs, (it, from, to) => {
    if (it === cell) for (let at = from; at < to; at++) same.push(at);
  });
  if (same.length < 2) return '';
  return `The same on ${same.length} kernels, ${kernels[same[0]].release} to ${kernels[same[same.length - 1]].release}.`;
}

function openDetails() {
  if (!map.selected) return;
  const rowNumber = map.rows[map.selected.row];
  const column = map.columns[map.selected.column];
  const [row, kernel] = [rows[rowNumber], kernels[column]];
  const { object, program } = row;
  const cell = atRun(row.runs, column);
  const code = grid[rowNumber * kernels.length + column];
  const close = el('button', { type: 'button', 'aria-label': 'Close', onclick: closeDetails }, '✕ Close');
  const title = el('h2', { id: 'details-title', tabindex: '-1' }, el('span', { class: 'mono' }, program.name), ' on ', kernel.release);
  const parts = [
    el('div', { class: 'top' }, title, close),
    el('p', { class: 'dim' }, `${object.name} · section `, el('span', { class: 'mono' }, program.section), program.auto ? '' : ' · not loaded by default'),
    el('p', { class: 'dim' }, `${kernelTitle(kernel)} · ${kernel.name}`),
    el('p', { class: 'verdict' }, sign(code), verdictName(code)),
  ];
  if (cell < 0) {
    const refusal = cell < -1 ? object.refusals[-2 - cell] : null;
    parts.push(el('p', {}, refusal ? `${refusal[1]} (${refusal[0]})` : 'Left out of this report.'));
  } else {
    const it = object.cells[cell];
    const findings = (it.f || []).map((number) => object.findings[number]);
    const [bad, fine] = [findings.filter((one) => one.v > 0), findings.filter((one) => one.v === 0)];
    bad.sort((a, b) => b.v - a.v);
    parts.push(el('p', {}, report.verdicts[code].means, ' ', alike(row, cell)));
    if (it.x) parts.push(el('p', {}, `The load ends at byte ${it.x[1]}${it.x[0] ? ` of ${it.x[0]}` : ''}: ${it.x[2]}.`));
    if (it.b) parts.push(el('p', {}, 'Within the bounds of the work, something could not be ruled out.'));
    if (it.a) parts.push(el('p', {}, 'Taken for granted:'), el('ul', {}, it.a.map((number) => el('li', {}, `· ${object.assumptions[number]}`))));
    parts.push(command(explainCommand(row, kernel)), ...bad.map((one) => findingBox(one, row, column)));
    if (fine.length) {
      parts.push(el('details', { open: !bad.length && fine.length < 6 }, el('summary', {}, `${plural(fine.length, 'finding')} that ${fine.length === 1 ? 'does' : 'do'} no harm`), fine.map((one) => findingBox(one, row, column))));
    }
    if (!findings.length) parts.push(el('p', { class: 'dim' }, 'Nothing to remark.'));
  }
  byId('details').replaceChildren(...parts);
  byId('details').hidden = false;
  byId('details').scrollTop = 0;
  title.focus({ preventScroll: true });
}

function closeDetails() {
  byId('details').hidden = true;
  map.canvas.focus({ preventScroll: true });
}

/** Says the selected cell to those who do not see it. */
function say(rowNumber, column) {
  const row = rows[rowNumber];
  const code = grid[rowNumber * kernels.length + column];
  const cell = atRun(row.runs, column);
  const why = cell >= 0 ? (row.object.cells[cell].f || []).map((it) => row.object.findings[it]).filter((it) => it.v > 0).map((it) => `${it.code} ${it.about}`) : [];
  byId('live').textContent = shown(`${row.program.name} in ${row.object.short} on ${kernels[column].release}: ${verdictName(code)}${why.length ? `, ${why.slice(0, 3).join(', ')}` : ''}`);
}

const MAP_KEYS = {
  ArrowUp: () => map.move(-1, 0),
  ArrowDown: () => map.move(1, 0),
  ArrowLeft: () => map.move(0, -1),
  ArrowRight: () => map.move(0, 1),
  PageUp: () => map.move(-20, 0),
  PageDown: () => map.move(20, 0),
  Home: () => map.move(0, -kernels.length),
  End: () => map.move(0, kernels.length),
  Enter: openDetails,
};
const PAGE_KEYS = {
  '/': () => byId('filter').focus(),
  j: () => { map.next(1); byId('details').hidden || openDetails(); },
  k: () => { map.next(-1); byId('details').hidden || openDetails(); },
  '+': () => map.zoom(1.5),
  '=': () => map.zoom(1.5),
  '-': () => map.zoom(1 / 1.5),
  0: () => map.fit(),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isText = event.target.matches('input[type="search"], select');
  if (event.key === 'Escape') {
    if (!byId('details').hidden) return closeDetails();
    if (isText) {
      // By itself, the field would empty itself.
      event.preventDefault();
      map.canvas.focus({ preventScroll: true });
    } else if (state.cause != null) chooseCause(state.cause);
    return;
  }
  const action = (event.target === map.canvas && MAP_KEYS[event.key]) || (!isText && PAGE_KEYS[event.key]);
  if (!action) return;
  event.preventDefault();
  action();
}

const map = new HeatMap(byId('map'), byId('tip'), { select: say, open: openDetails });
fillHead();
fillCauses();
update();
// It is below the map, and large: first there is something to see.
requestAnimationFrame(() => setTimeout(fillTable));
byId('map').setAttribute('aria-label', 'Verdicts of programs, down, on kernels, across');
byId('more-causes').addEventListener('click', () => { state.causesShown += 200; fillCauses(); });
let pending = 0;
byId('filter').addEventListener('input', () => { clearTimeout(pending); pending = setTimeout(update, 120); });
byId('failing').addEventListener('change', (event) => { state.failing = event.target.checked; update(); });
byId('zoom-in').addEventListener('click', () => map.zoom(1.5));
byId('zoom-out').addEventListener('click', () => map.zoom(1 / 1.5));
byId('zoom-fit').addEventListener('click', () => map.fit());
document.addEventListener('keydown', onKey);
