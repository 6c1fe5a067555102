
// The map: programs down, kernels across, on a canvas. Cells that are smaller than pixels share one, and the worst shows.

class HeatMap {
  /** `on`: what is told of the selected cell, and of the cell that is opened. */
  constructor(canvas, tip, on) {
    Object.assign(this, { canvas, tip, on, rows: [], columns: [], lit: null, selected: null, hover: null });
    Object.assign(this, { width: 300, height: 300, cellW: 10, cellH: 10, x: 0, y: 0, frame: 0 });
    this.pointers = new Map();
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.theme());
    canvas.addEventListener('wheel', (event) => this.wheel(event), { passive: false });
    for (const name of ['pointerdown', 'pointermove', 'pointerup', 'pointercancel', 'pointerleave']) {
      canvas.addEventListener(name, (event) => this[name](event));
    }
    this.theme();
  }

  theme() {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(`--${name}`).trim();
    this.colors = [...report.verdicts.map((it) => color(it.name)), color('none'), color('none')];
    this.signColors = this.colors.map((_, code) => color(code === 0 ? 'on-ok' : code > FAILS && code < NOT_JUDGED ? 'on-dark' : code === NOT_JUDGED ? 'dim' : 'on-light'));
    this.ink = { text: color('text'), dim: color('dim'), line: color('line'), bg: color('bg'), accent: color('accent') };
    this.words = this.colors.map((it) => {
      const [r, g, b] = it.match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16));
      return (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;
    });
    this.draw();
  }

  /** Shows these rows and columns, all of them in sight. */
  show(shownRows, shownColumns, lit) {
    const at = this.selected && { row: this.rows[this.selected.row], column: this.columns[this.selected.column] };
    Object.assign(this, { rows: shownRows, columns: shownColumns, lit, hover: null });
    const selected = at && { row: shownRows.indexOf(at.row), column: shownColumns.indexOf(at.column) };
    this.selected = selected && selected.row >= 0 && selected.column >= 0 ? selected : null;
    this.series = [];
    let column = 0;
    let end = 0;
    for (const [label, count] of report.series) {
      end += count;
      const from = column;
      while (column < shownColumns.length && shownColumns[column] < end) column++;
      if (column > from) this.series.push({ label, from, to: column });
    }
    this.resize(true);
  }

  resize(refit) {
    const width = this.canvas.parentElement.clientWidth;
    if (!width) return;
    const fitted = this.isFitted;
    this.width = width;
    // Of so many rows, names are seen only by zooming: they get less space.
    const names = this.rows.length > 400 ? 260 : 310;
    this.gutter = Math.round(Math.min(names, width * (width < 520 ? 0.38 : 0.32)));
    this.ratio = window.devicePixelRatio || 1;
    this.wide = Math.min(320, (width - this.gutter) / Math.max(1, this.columns.length));
    this.head = this.headFor(this.wide);
    // A page of some hundred programs scrolls; more are seen as a whole, and by zooming.
    const room = Math.max(260, Math.min(900, innerHeight * 0.7) - this.head, this.rows.length <= 160 ? this.rows.length * 15 : 0);
    const need = this.rows.length * 22;
    this.height = Math.round(this.head + Math.max(90, Math.min(room, need)) + 4);
    this.fitH = Math.min(22, (this.height - this.head) / Math.max(1, this.rows.length));
    this.canvas.width = Math.round(width * this.ratio);
    this.canvas.height = Math.round(this.height * this.ratio);
    this.canvas.style.height = `${this.height}px`;
    if (refit || fitted) this.fit();
    else this.clamp();
  }

  /** Space above the columns: for series, and for releases if there is some. */
  headFor(cellW) {
    return this.wide >= 100 ? 46 : cellW >= 13 ? 180 : 26;
  }

  fit() {
    Object.assign(this, { cellW: this.wide, cellH: this.fitH, x: 0, y: 0 });
    this.clamp();
  }

  clamp() {
    this.cellW = Math.max(this.wide, Math.min(64, this.cellW));
    this.cellH = Math.max(this.fitH, Math.min(30, this.cellH));
    this.head = this.headFor(this.cellW);
    const [spaceW, spaceH] = [this.width - this.gutter, this.height - this.head];
    this.x = Math.max(0, Math.min(this.x, this.columns.length * this.cellW - spaceW));
    this.y = Math.max(0, Math.min(this.y, this.rows.length * this.cellH - spaceH));
    this.isFitted = this.cellW <= this.wide + 0.01 && this.cellH <= this.fitH + 0.01;
    this.canvas.style.touchAction = this.isFitted ? 'pan-y' : 'none';
    this.draw();
  }

  zoom(factor, atX = (this.width + this.gutter) / 2, atY = (this.height + this.head) / 2) {
    const old = { w: this.cellW, h: this.cellH };
    this.cellW = Math.max(this.wide, Math.min(64, old.w * factor));
    this.cellH = Math.max(this.fitH, Math.min(30, old.h * factor));
    this.x = (this.x + atX - this.gutter) * (this.cellW / old.w) - (atX - this.gutter);
    this.y = (this.y + atY - this.head) * (this.cellH / old.h) - (atY - this.headFor(this.cellW));
    this.clamp();
  }

  draw() {
    if (!this.frame) this.frame = requestAnimationFrame(() => this.paint());
  }

  code(row, column) {
    return grid[this.rows[row] * kernels.length + this.columns[column]];
  }

  isLit(row, column) {
    return !this.lit || this.lit(this.rows[row], this.columns[column]);
  }

  paint() {
    this.frame = 0;
    if (!this.gutter) return;
    const context = this.canvas.getContext('2d');
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.fillStyle = this.ink.bg;
    context.fillRect(0, 0, this.width, this.height);
    if (!this.rows.length || !this.columns.length) {
      context.fillStyle = this.ink.dim;
      context.font = '14px system-ui, sans-serif';
      context.textAlign = 'left';
      context.textBaseline = 'middle';
      context.fillText('Nothing fits the filter.', 14, this.height / 2);
      return;
    }
    const small = this.cellW < 4 || this.cellH < 4;
    if (small) this.paintPixels(context);
    else this.paintCells(context);
    this.paintSeries(context);
    this.paintNames(context);
    if (this.selected) {
      const { row, column } = this.selected;
      const [x, y] = [this.gutter + column * this.cellW - this.x, this.head + row * this.cellH - this.y];
      const [w, h] = [Math.max(this.cellW, 6), Math.max(this.cellH, 6)];
      if (x + w > this.gutter && y + h > this.head) {
        context.strokeStyle = this.ink.bg;
        context.lineWidth = 5;
        context.strokeRect(x - 1, y - 1, w + 1, h + 1);
        context.strokeStyle = this.ink.accent;
        context.lineWidth = 2.5;
        context.strokeRect(x - 1, y - 1, w + 1, h + 1);
      }
    }
  }

  /** A pixel shows the worst of the cells in it. */
  paintPixels(context) {
    const scale = this.ratio;
    const left = Math.round(this.gutter * scale);
    const top = Math.round(this.head * scale);
    const width = Math.min(this.canvas.width - left, Math.ceil((this.columns.length * this.cellW - this.x) * scale));
    const height = Math.min(this.canvas.height - top, Math.ceil((this.rows.length * this.cellH - this.y) * scale));
    if (width <= 0 || height <= 0) return;
    const range = (pixel, offset, cell, count) => {
      const from = Math.floor((pixel / scale + offset) / cell);
      const to = Math.ceil(((pixel + 1) / scale + offset) / cell - 1e-9);
      return [Math.min(from, count - 1), Math.min(Math.max(to, from + 1), count)];
    };
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const across = Array.from({ length: width }, (_, it) => range(it, this.x, this.cellW, this.columns.length));
    let previous = null;
    for (let y = 0; y < height; y++) {
      const [fromRow, toRow] = range(y, this.y, this.cellH, this.rows.length);
      if (previous && previous.from === fromRow && previous.to === toRow) {
        pixels.copyWithin(y * width, (y - 1) * width, y * width);
        continue;
      }
      previous = { from: fromRow, to: toRow };
      for (let x = 0; x < width; x++) {
        const [fromColumn, toColumn] = across[x];
        let worst = NOT_SHOWN;
        for (let row = fromRow; row < toRow; row++) {
          for (let column = fromColumn; column < toColumn; column++) {
            let code = this.code(row, column);
            if (code > 0 && this.lit && !this.isLit(row, column)) code = Math.min(code, 0);
            if (RANK[code] > RANK[worst]) worst = code;
          }
        }
        pixels[y * width + x] = this.words[worst];
      }
    }
    context.putImageData(image, left, top);
  }

  inSight() {
    const first = (offset, cell) => Math.max(0, Math.floor(offset / cell));
    const last = (offset, space, cell, count) => Math.min(count, Math.ceil((offset + space) / cell));
    return {
      fromRow: first(this.y, this.cellH),
      toRow: last(this.y, this.height - this.head, this.cellH, this.rows.length),
      fromColumn: first(this.x, this.cellW),
      toColumn: last(this.x, this.width - this.gutter, this.cellW, this.columns.length),
    };
  }

  clipped(context, [x, y, width, height], paint) {
    context.save();
    context.beginPath();
    context.rect(x, y, width, height);
    context.clip();
    paint();
    context.restore();
  }

  paintCells(context) {
    const { fromRow, toRow, fromColumn, toColumn } = this.inSight();
    const gap = Math.min(this.cellW, this.cellH) >= 7 ? 1 : 0;
    const signs = Math.min(this.cellW, this.cellH) >= 11;
    context.font = `bold ${Math.min(14, Math.floor(Math.min(this.cellW, this.cellH) * 0.8))}px system-ui, sans-serif`;
    context.textAlign = 'center';
    context.textBaseline = 'middle';
    this.clipped(context, [this.gutter, this.head, this.width, this.height], () => {
      for (let row = fromRow; row < toRow; row++) {
        const y = this.head + row * this.cellH - this.y;
        for (let column = fromColumn; column < toColumn; column++) {
          const x = this.gutter + column * this.cellW - this.x;
          const code = this.code(row, column);
          if (code === NOT_SHOWN) continue;
          context.globalAlpha = this.isLit(row, column) ? 1 : 0.25;
          context.fillStyle = this.colors[code];
          context.fillRect(x, y, this.cellW - gap + 0.3, this.cellH - gap + 0.3);
          context.fillStyle = this.signColors[code];
          const text = this.cellW >= 100 && code > 0 && code < NOT_JUDGED ? `${SIGNS[code]}  ${verdictName(code)}` : SIGNS[code];
          if (signs) context.fillText(text, x + (this.cellW - gap) / 2, y + (this.cellH - gap) / 2 + 0.5);
          else this.paintMark(context, code, x, y, this.cellW - gap, this.cellH - gap);
        }
      }
      context.globalAlpha = 1;
    });
  }

  /** What stands in for a sign where there is no space for one. */
  paintMark(context, code, x, y, w, h) {
    if (code === 1) context.fillRect(x + w * 0.2, y + h * 0.45, w * 0.6, Math.max(1, h * 0.15));
    else if (code === 2 || code === 3) context.fillRect(x + w * 0.35, y + h * 0.3, w * 0.3, h * 0.4);
    else if (code >= FAILS && code < NOT_JUDGED) {
      context.strokeStyle = this.signColors[code];
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(x + w * 0.2, y + h * 0.2);
      context.lineTo(x + w * 0.8, y + h * 0.8);
      context.moveTo(x + w * 0.8, y + h * 0.2);
      context.lineTo(x + w * 0.2, y + h * 0.8);
      context.stroke();
    }
  }

  paintSeries(context) {
    const right = Math.min(this.width, this.gutter + this.columns.length * this.cellW - this.x);
    const active = this.hover || this.selected;
    this.clipped(context, [this.gutter - 1, 0, this.width, this.head], () => {
      context.textBaseline = 'middle';
      context.textAlign = 'left';
      let free = -Infinity;
      for (const { label, from, to } of this.series) {
        const x = this.gutter + from * this.cellW - this.x;
        const end = this.gutter + to * this.cellW - this.x;
        if (end < this.gutter || x > right) continue;
        context.fillStyle = this.ink.line;
        context.fillRect(x, 4, 1, this.head);
        context.font = 'bold 12px system-ui, sans-serif';
        const at = Math.max(x + 4, this.gutter + 2);
        const width = context.measureText(label).width;
        if (at < free + 6 || (at + width > end + 2 && end - x < width * 0.8)) continue;
        free = at + width;
        context.fillStyle = this.ink.text;
        context.fillText(shown(label), at, 13);
      }
      if (this.head < 40) return;
      context.font = '11.5px system-ui, sans-serif';
      const { fromColumn, toColumn } = this.inSight();
      for (let column = fromColumn; column < toColumn; column++) {
        if (this.wide >= 100) {
          context.fillStyle = active && active.column === column ? this.ink.accent : this.ink.dim;
          context.fillText(this.cut(context, kernels[this.columns[column]].release, this.cellW - 8), this.gutter + column * this.cellW - this.x + 4, this.head - 14);
          continue;
        }
        context.save();
        context.translate(this.gutter + (column + 0.5) * this.cellW - this.x, this.head - 5);
        context.rotate(-Math.PI / 2);
        context.fillStyle = active && active.column === column ? this.ink.accent : this.ink.dim;
        context.fillText(this.cut(context, kernels[this.columns[column]].release, this.head - 30), 0, 0);
        context.restore();
      }
    });
    context.fillStyle = this.ink.line;
    context.fillRect(0, this.head - 1, this.width, 1);
  }

  /** Text that fits, without its middle if need be. */
  cut(context, text, width) {
    const whole = shown(text);
    if (context.measureText(whole).width <= width) return whole;
    let keep = Math.floor((whole.length * width) / context.measureText(whole).width) - 1;
    for (; keep > 1; keep--) {
      const half = Math.ceil(keep / 2);
      const short = `${whole.slice(0, half)}…${whole.slice(whole.length - (keep - half))}`;
      if (context.measureText(short).width <= width) return short;
    }
    return '…';
  }

  paintNames(context) {
    const { fromRow, toRow } = this.inSight();
    const active = this.hover || this.selected;
    const both = this.gutter > 220;
    const names = this.cellH >= 11;
    const split = both && names ? Math.round(this.gutter * 0.42) : 0;
    context.textBaseline = 'middle';
    this.clipped(context, [0, this.head, this.gutter - 4, this.height], () => {
      let start = fromRow;
      for (let row = fromRow; row < toRow; row++) {
        const { objectNumber, object, program } = rows[this.rows[row]];
        const isLast = row + 1 >= toRow || rows[this.rows[row + 1]].objectNumber !== objectNumber;
        const y = this.head + (row + 0.5) * this.cellH - this.y;
        if (names) {
          context.textAlign = 'right';
          context.font = '12px system-ui, sans-serif';
          context.fillStyle = active && active.row === row ? this.ink.accent : this.ink.text;
          context.fillText(this.cut(context, program.name, this.gutter - split - 14), this.gutter - 8, y);
        }
        if (!isLast) continue;
        const from = Math.max(this.head, this.head + start * this.cellH - this.y);
        const to = this.head + (row + 1) * this.cellH - this.y;
        if (to - from >= 11 && (split || !names)) {
          context.textAlign = 'left';
          context.font = '11.5px system-ui, sans-serif';
          context.fillStyle = this.ink.dim;
          context.fillText(this.cut(context, object.short, (split || this.gutter) - 12), 8, names ? from + Math.min(this.cellH / 2, (to - from) / 2) : (from + to) / 2);
        }
        if (to - from >= 5) {
          context.fillStyle = this.ink.line;
          context.fillRect(0, to - 0.5, this.gutter, 1);
        }
        start = row + 1;
      }
    });
  }

  /** The cell at a place of the canvas. */
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const column = x < this.gutter ? (this.selected?.column ?? -1) : Math.floor((x - this.gutter + this.x) / this.cellW);
    const row = Math.floor((y - this.head + this.y) / this.cellH);
    const inside = y >= this.head && row < this.rows.length && column >= 0 && column < this.columns.length;
    return { x, y, cell: inside ? { row, column } : null, isName: x < this.gutter };
  }

  wheel(event) {
    const out = event.deltaY > 0;
    // At either end, the page goes on scrolling.
    if ((out && this.isFitted) || !this.rows.length) return;
    event.preventDefault();
    if (event.shiftKey) {
      this.x += event.deltaY + event.deltaX;
      this.clamp();
      return;
    }
    const { x, y } = this.at(event);
    this.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), x, y);
  }

  pointerdown(event) {
    this.pointers.set(event.pointerId, event);
    this.drag = { x: event.clientX, y: event.clientY, moved: false };
  }

  pointermove(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return this.point(event);
    const others = [...this.pointers.values()].filter((it) => it.pointerId !== event.pointerId);
    if (others.length) {
      const distance = (it) => Math.hypot(it.clientX - others[0].clientX, it.clientY - others[0].clientY);
      const box = this.canvas.getBoundingClientRect();
      const [x, y] = [(event.clientX + others[0].clientX) / 2 - box.left, (event.clientY + others[0].clientY) / 2 - box.top];
      this.zoom(distance(event) / Math.max(1, distance(before)), x, y);
      this.drag.moved = true;
    } else {
      if (!this.drag.moved && Math.hypot(event.clientX - this.drag.x, event.clientY - this.drag.y) < 5) return;
      if (!this.drag.moved) this.canvas.setPointerCapture(event.pointerId);
      this.drag.moved = true;
      this.canvas.classList.add('moving');
      this.tip.hidden = true;
      this.x -= event.clientX - before.clientX;
      this.y -= event.clientY - before.clientY;
      this.clamp();
    }
    this.pointers.set(event.pointerId, event);
  }

  pointerup(event) {
    this.pointers.delete(event.pointerId);
    this.canvas.classList.remove('moving');
    if (!this.drag || this.drag.moved) return;
    const { cell, isName } = this.at(event);
    if (!cell || isName) return;
    this.select(cell.row, cell.column);
    this.on.open();
  }

  pointercancel(event) {
    this.pointers.delete(event.pointerId);
    this.canvas.classList.remove('moving');
  }

  pointerleave() {
    this.hover = null;
    this.tip.hidden = true;
    this.draw();
  }

  point(event) {
    const { x, y, cell, isName } = this.at(event);
    const isNew = (cell && cell.row) !== (this.hover && this.hover.row) || (cell && cell.column) !== (this.hover && this.hover.column);
    this.hover = cell;
    this.tip.hidden = !cell;
    if (!cell) return isNew && this.draw();
    if (isNew) {
      const { object, program } = rows[this.rows[cell.row]];
      const text = isName ? [] : [el('div', {}, `${kernels[this.columns[cell.column]].release}: `, el('b', {}, verdictName(this.code(cell.row, cell.column))))];
      this.tip.replaceChildren(el('div', {}, el('b', {}, program.name), ` in ${object.short}`), ...text);
      this.draw();
    }
    const wide = this.tip.offsetWidth;
    this.tip.style.left = `${Math.max(2, Math.min(x + 14, this.width - wide - 4))}px`;
    this.tip.style.top = `${y + 18 + this.tip.offsetHeight > this.height ? Math.max(2, y - this.tip.offsetHeight - 8) : y + 18}px`;
  }

  /** Selects a cell and brings it into sight. */
  select(row, column) {
    if (!this.rows.length || !this.columns.length) return;
    row = Math.max(0, Math.min(row, this.rows.length - 1));
    column = Math.max(0, Math.min(column, this.columns.length - 1));
    this.selected = { row, column };
    const into = (offset, place, cell, space) => Math.min(place * cell, Math.max(offset, (place + 1) * cell - space));
    this.x = into(this.x, column, this.cellW, this.width - this.gutter);
    this.y = into(this.y, row, this.cellH, this.height - this.head);
    this.clamp();
    this.on.select(this.rows[row], this.columns[column]);
  }

  move(down, right) {
    const { row, column } = this.selected || { row: down > 0 ? -1 : 0, column: right > 0 ? -1 : 0 };
    this.select(row + down, column + right);
  }

  /** The next cell that fails, or else the next one that is not fine, row by row. */
  next(step) {
    const count = this.rows.length * this.columns.length;
    const codes = [(it) => it >= FAILS && it < NOT_JUDGED, (it) => it > 0 && it < NOT_JUDGED];
    const start = this.selected ? this.selected.row * this.columns.length + this.selected.column : step > 0 ? -1 : count;
    for (const wanted of codes) {
      for (let at = start + step; at >= 0 && at < count; at += step) {
        const [row, column] = [Math.floor(at / this.columns.length), at % this.columns.length];
        // Of equal neighbours in a row, the first one stands for all.
        const isRepeated = column > 0 && this.cellOf(row, column) === this.cellOf(row, column - 1);
        if (wanted(this.code(row, column)) && this.isLit(row, column) && !isRepeated) return this.select(row, column);
      }
    }
  }

  cellOf(row, column) {
    return atRun(rows[this.rows[row]].runs, this.columns[column]);
  }
}
