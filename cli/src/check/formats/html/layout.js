
// Structs in two kernels side by side, with what the program reads of them.

const structs = new Map((report.layouts?.structs || []).map((it) => [it.name, it]));

/** Bytes or bits that a row shows at most. */
const BYTES_MAX = 16;
const BITS_MAX = 24;
/** Members shown on either side of what is read. */
const AROUND = 3;

function bits(offset) {
  return offset % 8 ? `byte ${Math.floor(offset / 8)}, bit ${offset % 8}` : `byte ${offset / 8}`;
}

/** Members with their place, width and a key that is the same in other layouts. */
function membersOf(layout) {
  const names = [];
  return layout.members.map(([declaration, depth, offset, field, size]) => {
    const text = report.layouts.declarations[declaration];
    names.length = depth;
    names[depth] = text;
    return { text, depth, offset, field, width: field || size * 8, key: names.join('\n') };
  });
}

/** The bytes of a member as squares, those that are read filled; of a bitfield, the bits. */
function squares(member, mark) {
  const unit = member.field ? 1 : 8;
  const count = Math.max(1, Math.ceil(member.width / unit));
  const most = unit === 1 ? BITS_MAX : BYTES_MAX;
  const box = el('span', { class: unit === 1 ? 'bytes bits' : 'bytes', 'aria-hidden': 'true' });
  if (!member.width) return box;
  // Of a long member, the squares around what is read.
  const first = mark && count > most ? Math.max(0, Math.min(Math.floor((mark[0] - member.offset) / unit), count - most)) : 0;
  if (first > 0) box.append(el('span', {}, '…'));
  for (let at = first; at < Math.min(count, first + most); at++) {
    const from = member.offset + at * unit;
    box.append(el('i', { class: mark && from < mark[0] + mark[1] && from + unit > mark[0] ? 'on' : '' }));
  }
  if (first + most < count) box.append(el('span', {}, '…'));
  return box;
}

/** The struct as one kernel has it. `other`: the members of the other side. */
function side(struct, layout, path, other) {
  if (!layout) return el('div', { class: 'missing' }, `This kernel has no ${struct.name}.`);
  const mark = layout.marks[path];
  const members = membersOf(layout);
  const there = new Map((other || []).map((it) => [it.key, it]));
  const isRead = (it) => mark && it.offset < mark[0] + mark[1] && it.offset + it.width > mark[0];
  const focus = [];
  members.forEach((it, at) => isRead(it) && focus.push(at));
  if (!focus.length && other?.mark) {
    // Where it would be: behind the member that stands before it on the other side.
    const here = new Map(members.map((it, at) => [it.key, at]));
    const before = other.slice(0, other.findIndex((it) => it.isRead)).reverse().find((it) => here.has(it.key));
    focus.push(before ? here.get(before.key) : 0);
  }
  if (!focus.length) focus.push(0);
  const near = new Set(focus.flatMap((at) => Array.from({ length: 2 * AROUND + 1 }, (_, it) => at - AROUND + it)));
  const box = el('div', { class: 'members' });
  const line = (it) => {
    const read = isRead(it);
    const moved = there.get(it.key);
    const words = [`d${Math.min(4, it.depth)}`, read && 'read', other && !moved && 'only'].filter(Boolean);
    const place = it.field ? `${Math.floor(it.offset / 8)}:${it.offset % 8}` : String(it.offset / 8);
    const note = read ? ' ◀ read' : other && !moved ? ' +' : '';
    const title = `${it.text}: ${bits(it.offset)}, ${it.field ? plural(it.field, 'bit') : plural(it.width / 8, 'byte')}${read ? ', read by the program' : ''}${other && !moved ? ', only here' : moved && moved.offset !== it.offset ? `, in the other at ${bits(moved.offset)}` : ''}`;
    return el('div', { class: words.join(' '), title }, el('span', { class: 'off' }, place), el('span', { class: 'name mono' }, it.text, it.field ? ` : ${it.field}` : '', note), squares(it, read ? mark : null));
  };
  for (let at = 0; at < members.length;) {
    if (near.has(at)) {
      box.append(line(members[at++]));
      continue;
    }
    const hidden = [];
    while (at < members.length && !near.has(at)) hidden.push(members[at++]);
    const button = el('button', { type: 'button', onclick: () => row.replaceWith(...hidden.map(line)) }, `… ${plural(hidden.length, 'member')}`);
    const row = el('div', { class: 'gap' }, button);
    box.append(row);
  }
  if (layout.left) box.append(el('div', { class: 'gap' }, el('span', {}), el('span', {}, `… ${plural(layout.left, 'member')} that ${layout.left === 1 ? 'is' : 'are'} not in this report`)));
  return box;
}

/** What the field is in a layout, in words. */
function placeOf(struct, layout, path) {
  if (!layout) return `no ${struct.name}`;
  const mark = layout.marks[path];
  const name = struct.paths[path];
  if (!name) return `${struct.name} has ${plural(layout.size, 'byte')}`;
  if (!mark) return `no ${name}`;
  const width = mark[1] % 8 ? plural(mark[1], 'bit') : plural(mark[1] / 8, 'byte');
  return `${name} at ${bits(mark[0])}, ${width}`;
}

/** Kernels of each layout, as a choice. */
function layoutChoices(struct) {
  const on = new Map();
  eachRun(struct.of, (number, from, to) => {
    if (!on.has(number)) on.set(number, []);
    for (let at = from; at < to; at++) on.get(number).push(at);
  });
  return on;
}

/** The view of a struct on the kernel of `column` beside another one, at first the nearest on which the program is fine. */
function layoutView(within, column, isFine, isJudged) {
  const struct = structs.get(within[0]);
  const path = struct ? struct.paths.indexOf(within[1]) : -1;
  if (path < 0) return null;
  const on = layoutChoices(struct);
  const number = atRun(struct.of, column);
  const byDistance = Array.from(kernels.keys()).sort((a, b) => Math.abs(a - column) - Math.abs(b - column));
  const has = (it) => atRun(struct.of, it) >= 0;
  const fine = byDistance.find((it) => it !== column && isFine(it) && has(it));
  const others = byDistance.filter((it) => atRun(struct.of, it) !== number && has(it));
  const second = fine ?? others.find(isJudged) ?? others[0];
  const sides = el('div', { class: 'sides' });
  const words = el('p', { class: 'dim' });
  const label = (at, it) => {
    const columns = on.get(it) || [];
    const more = columns.length > 1 ? ` and ${columns.length - 1} more with this layout` : '';
    return `${kernels[at].release}${more}`;
  };
  const show = (at) => {
    const [here, other] = [struct.layouts[number], at == null ? null : struct.layouts[atRun(struct.of, at)]];
    const read = (layout) => {
      if (!layout) return null;
      const all = membersOf(layout);
      const mark = layout.marks[path];
      all.mark = mark;
      all.forEach((it) => (it.isRead = mark && it.offset < mark[0] + mark[1] && it.offset + it.width > mark[0]));
      return all;
    };
    const head = (layout, title) => el('h4', {}, title, layout ? el('span', { class: 'dim' }, ` · ${plural(layout.size, 'byte')}`) : '');
    const choice = el('select', { 'aria-label': 'The other kernel' });
    for (const [it, columns] of on) {
      if (it === number && on.size > 1) continue;
      const nearest = columns.includes(at) ? at : columns.reduce((a, b) => (Math.abs(b - column) < Math.abs(a - column) ? b : a));
      const option = el('option', { value: nearest }, `${label(nearest, it)}${isFine(nearest) ? ', fine there' : ''}`);
      option.selected = nearest === at;
      choice.append(option);
    }
    choice.addEventListener('change', () => show(Number(choice.value)));
    const right = at == null ? [el('p', { class: 'dim' }, 'No other kernel here has another layout.')] : [choice, head(other, struct.name), side(struct, other, path, read(here))];
    sides.replaceChildren(
      el('div', { class: 'side' }, el('div', { class: 'kernel' }, label(column, number)), head(here, struct.name), side(struct, here, path, read(other))),
      el('div', { class: 'side' }, right),
    );
    words.replaceChildren(`Here: ${placeOf(struct, here, path)}.${at == null ? '' : ` On ${kernels[at].release}: ${placeOf(struct, other, path)}.`}`);
  };
  show(second);
  const legend = el('p', { class: 'dim' }, '◀ what the program reads · + only on this side · in front, bytes from the start; a square is a byte, of bitfields a bit');
  return el('div', { class: 'layout' }, el('h4', {}, `The bytes of ${struct.name}`), words, sides, legend);
}
