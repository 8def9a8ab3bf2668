// Plays a recording of a terminal, asciicast v2: Screen is what a terminal shows
// of what programs write to it, as far as they write what xterm knows; the rest
// is the player of the element that has data-cast.
//
// What was recorded is shown, and nothing else is done with it: it is set as
// text, no sequence answers, opens a link, or sets a title.
'use strict';

// What a recording may ask for, whatever it says.
const most = { columns: 500, rows: 200, bytes: 32 << 20, sequence: 1 << 10, kept: 1 << 22 };

// How long the page works at a time, in milliseconds.
const turn = 50;

const plain = Object.freeze({});

const wide = /^(?:\p{Emoji_Presentation}|[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}])/u;
const combining = /^[\p{M}\u200b-\u200d\u2060\ufe00-\ufe0f\u{1f3fb}-\u{1f3ff}]/u;
// What a browser acts on where a terminal shows nothing: it breaks the line, or has
// what is around it read in another order.
const unseen = /^[\x80-\x9f\u2028\u2029\ufeff\p{Bidi_Control}]/u;

// What ESC ( 0 makes of the letters from ` to ~.
const lines = '◆▒␉␌␍␊°±␤␋┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·';

// The sequences of ECMA-48 and xterm, where they begin, and the beginning of one
// that isn't whole yet.
const text = /[^\x00-\x1f\x7f]+/y;
const csi = /\x1b\[([<=>?]?)([\d;:]*)([ -/]*)([@-~])/y;
const string = /\x1b[\]PX^_][^\x07\x18\x1a\x1b]*(?:[\x07\x18\x1a]|\x1b\\|(?=\x1b[^\\]))/y;
const charset = /\x1b([()*+\-./#% ])([^\x1b])/y;
const escape = /\x1b([^[\]PX^_()*+\-./#% \x1b])/y;
const part = /\x1b(?:$|\[[<=>?]?[\d;:]*[ -/]*$|[\]PX^_][^\x07\x18\x1a\x1b]*\x1b?$|[()*+\-./#% ]$)/y;

export class Screen {
  constructor(columns, rows) {
    this.columns = Math.min(Math.max(columns | 0, 1), most.columns);
    this.rows = Math.min(Math.max(rows | 0, 1), most.rows);
    this.reset();
  }

  reset() {
    this.style = plain;
    this.grid = Array.from({ length: this.rows }, () => this.blank());
    this.x = this.y = 0;
    this.top = 0;
    this.bottom = this.rows - 1;
    this.saved = { x: 0, y: 0, style: plain };
    this.main = null; // the grid that an alternate screen covers
    this.cursor = true;
    this.wraps = true;
    this.inserts = false;
    this.sets = [false, false]; // whether G0 and G1 have lines in place of letters
    this.set = 0; // which of them is in use
    this.rest = ''; // of a sequence that isn't whole
    this.dirty = new Set(this.grid.keys());
  }

  blank() {
    const cell = { c: ' ', s: this.style.bg ? { bg: this.style.bg } : plain };
    return Array(this.columns).fill(cell);
  }

  // clone is the screen as it is now: rows are never shared once they change.
  clone() {
    const copy = Object.assign(Object.create(Screen.prototype), this);
    copy.grid = this.grid.map((row) => row.slice());
    copy.main = this.main?.map((row) => row.slice()) ?? null;
    copy.saved = { ...this.saved };
    copy.dirty = new Set(copy.grid.keys());
    return copy;
  }

  resize(columns, rows) {
    columns = Math.min(Math.max(columns | 0, 1), most.columns);
    rows = Math.min(Math.max(rows | 0, 1), most.rows);
    const cut = this.y >= rows ? this.y - rows + 1 : 0; // what goes off at the top
    [this.columns, this.rows] = [columns, rows];
    const fit = (grid, from) => Array.from({ length: rows }, (_, y) => {
      const row = (grid[y + from] ?? []).slice(0, columns);
      while (row.length < columns) row.push({ c: ' ', s: plain });
      return row;
    });
    this.grid = fit(this.grid, cut);
    if (this.main) this.main = fit(this.main, 0);
    this.x = Math.min(this.x, columns - 1);
    this.y -= cut;
    [this.top, this.bottom] = [0, rows - 1];
    this.dirty = new Set(this.grid.keys());
  }

  // text is what stands in the rows, without blanks at their ends.
  text() {
    return this.grid.map((row) => row.map((cell) => cell.c).join('').trimEnd()).join('\n').trimEnd();
  }

  write(more) {
    const input = this.rest + more;
    this.rest = '';
    let at = 0;
    const next = (pattern) => {
      pattern.lastIndex = at;
      const match = pattern.exec(input);
      if (match) at = pattern.lastIndex;
      return match;
    };
    while (at < input.length) {
      const code = input.charCodeAt(at);
      let match;
      if (code !== 0x1b) {
        if ((match = next(text))) this.print(match[0]);
        else this.control(input.charCodeAt(at++));
      } else if ((match = next(csi))) {
        this.sequence(match[1], match[2], match[3], match[4]);
      } else if ((match = next(charset))) {
        if (match[1] === '(' || match[1] === ')') this.sets = this.sets.with('()'.indexOf(match[1]), match[2] === '0');
        if (match[1] === '#' && match[2] === '8') this.fill('E');
      } else if ((match = next(escape))) {
        this.escape(match[1]);
      } else if (!next(string)) {
        if (!(match = next(part))) at++; // it is none, and its escape is left out
        else if (/^.[\]PX^_]./s.test(match[0])) this.rest = match[0].slice(0, 2) + (match[0].endsWith('\x1b') ? '\x1b' : ''); // what it says is left out anyway
        else if (match[0].length < most.sequence) this.rest = match[0];
      }
    }
  }

  fill(c) {
    this.grid = this.grid.map((row) => row.map(() => ({ c, s: plain })));
    this.dirty = new Set(this.grid.keys());
  }

  control(code) {
    switch (code) {
      case 8: this.x = Math.max(Math.min(this.x, this.columns - 1) - 1, 0); break;
      case 9: this.x = Math.min((this.x >> 3) + 1 << 3, this.columns - 1); break;
      case 10: case 11: case 12: this.down(); break;
      case 13: this.x = 0; break;
      case 14: this.set = 1; break;
      case 15: this.set = 0; break;
    }
  }

  escape(c) {
    switch (c) {
      case '7': this.save(); break;
      case '8': this.restore(); break;
      case 'D': this.down(); break;
      case 'E': this.x = 0; this.down(); break;
      case 'M': this.up(); break;
      case 'c': this.reset(); break;
    }
  }

  save() { this.saved = { x: this.x, y: this.y, style: this.style }; }

  restore() {
    this.goto(this.saved.x, this.saved.y);
    this.style = this.saved.style;
  }

  goto(x, y) {
    this.x = Math.min(Math.max(x, 0), this.columns - 1);
    this.y = Math.min(Math.max(y, 0), this.rows - 1);
  }

  down() {
    if (this.y === this.bottom) this.scroll(this.top, this.bottom, 1);
    else this.y = Math.min(this.y + 1, this.rows - 1);
  }

  up() {
    if (this.y === this.top) this.scroll(this.top, this.bottom, -1);
    else this.y = Math.max(this.y - 1, 0);
  }

  // scroll moves the rows from top to bottom up, or down if by is negative.
  scroll(top, bottom, by) {
    const n = Math.min(Math.abs(by), bottom - top + 1);
    for (let i = 0; i < n; i++) {
      if (by > 0) {
        this.grid.splice(top, 1);
        this.grid.splice(bottom, 0, this.blank());
      } else {
        this.grid.splice(bottom, 1);
        this.grid.splice(top, 0, this.blank());
      }
    }
    for (let y = top; y <= bottom; y++) this.dirty.add(y);
  }

  print(run) {
    for (let c of run) {
      if (c >= '\x80' && unseen.test(c)) continue;
      if (c >= '\x80' && combining.test(c)) {
        const x = Math.max(Math.min(this.x, this.columns) - 1, 0);
        const row = this.grid[this.y];
        const of = row[x].c === '' && x > 0 ? x - 1 : x;
        if (row[of].c.length < 16) row[of] = { c: row[of].c + c, s: row[of].s };
        this.dirty.add(this.y);
        continue;
      }
      if (this.sets[this.set] && c >= '`' && c <= '~') c = lines[c.charCodeAt(0) - 96];
      const takes = c >= '\u1100' && wide.test(c) && this.columns > 1 ? 2 : 1;
      if (this.x + takes > this.columns) {
        if (this.wraps) {
          this.x = 0;
          this.down();
        } else {
          this.x = this.columns - takes;
        }
      }
      const row = this.grid[this.y];
      if (this.inserts) {
        for (let i = 0; i < takes; i++) row.splice(this.x, 0, { c: ' ', s: plain });
        row.length = this.columns;
      }
      row[this.x++] = { c, s: this.style };
      if (takes === 2) row[this.x++] = { c: '', s: this.style };
      this.dirty.add(this.y);
    }
  }

  erase(y, from, to) {
    const cell = { c: ' ', s: this.style.bg ? { bg: this.style.bg } : plain };
    this.grid[y].fill(cell, Math.max(from, 0), Math.min(to, this.columns));
    this.dirty.add(y);
  }

  alternate(on) {
    if (on === Boolean(this.main)) return;
    if (on) {
      this.main = this.grid;
      this.grid = Array.from({ length: this.rows }, () => this.blank());
    } else {
      [this.grid, this.main] = [this.main, null];
    }
    this.dirty = new Set(this.grid.keys());
  }

  sequence(mark, given, between, final) {
    if (between) return final === 'p' && between === '!' ? this.reset() : undefined;
    if (final === 'm' && !mark) return this.paint(given);
    const numbers = given.split(/[;:]/).map((n) => Math.min(Number(n), 9999));
    const n = numbers[0] || 1;
    if (mark) {
      if (mark === '?' && (final === 'h' || final === 'l')) for (const mode of numbers) this.mode(mode, final === 'h');
      return undefined;
    }
    const x = Math.min(this.x, this.columns - 1);
    const row = this.grid[this.y];
    const blank = () => ({ c: ' ', s: plain });
    const inside = this.y >= this.top && this.y <= this.bottom;
    switch (final) {
      case 'A': this.goto(x, Math.max(this.y - n, this.y >= this.top ? this.top : 0)); break;
      case 'B': case 'e': this.goto(x, Math.min(this.y + n, this.y <= this.bottom ? this.bottom : this.rows - 1)); break;
      case 'C': case 'a': this.goto(x + n, this.y); break;
      case 'D': this.goto(x - n, this.y); break;
      case 'E': this.goto(0, this.y + n); break;
      case 'F': this.goto(0, this.y - n); break;
      case 'G': case '`': this.goto(n - 1, this.y); break;
      case 'd': this.goto(x, n - 1); break;
      case 'H': case 'f': this.goto((numbers[1] || 1) - 1, n - 1); break;
      case 'J': {
        const how = numbers[0];
        if (how === 0) this.erase(this.y, x, this.columns);
        if (how === 1) this.erase(this.y, 0, x + 1);
        for (let y = 0; y < this.rows; y++) if (how === 2 || how === 0 && y > this.y || how === 1 && y < this.y) this.erase(y, 0, this.columns);
        break;
      }
      case 'K': this.erase(this.y, numbers[0] === 0 ? x : 0, numbers[0] === 1 ? x + 1 : this.columns); break;
      case 'X': this.erase(this.y, x, x + n); break;
      case '@':
        row.splice(x, 0, ...Array.from({ length: Math.min(n, this.columns - x) }, blank));
        row.length = this.columns;
        this.dirty.add(this.y);
        break;
      case 'P':
        row.splice(x, n);
        while (row.length < this.columns) row.push(blank());
        this.dirty.add(this.y);
        break;
      case 'L': if (inside) this.scroll(this.y, this.bottom, -n); break;
      case 'M': if (inside) this.scroll(this.y, this.bottom, n); break;
      case 'S': this.scroll(this.top, this.bottom, n); break;
      case 'T': this.scroll(this.top, this.bottom, -n); break;
      case 'b': this.print((row[Math.min(this.x, this.columns) - 1]?.c ?? '').repeat(Math.min(n, this.columns))); break;
      case 'r': {
        const bottom = Math.min(numbers[1] || this.rows, this.rows) - 1;
        if (n - 1 < bottom) [this.top, this.bottom] = [n - 1, bottom];
        this.goto(0, 0);
        break;
      }
      case 's': this.save(); break;
      case 'u': this.restore(); break;
      case 'h': case 'l': if (numbers.includes(4)) this.inserts = final === 'h'; break;
    }
    return undefined;
  }

  mode(mode, on) {
    switch (mode) {
      case 7: this.wraps = on; break;
      case 25: this.cursor = on; break;
      case 47: case 1047: this.alternate(on); break;
      case 1048: if (on) this.save(); else this.restore(); break;
      case 1049:
        if (on) this.save();
        this.alternate(on);
        if (!on) this.restore();
        break;
    }
  }

  // paint reads what SGR says of colours and the like.
  paint(given) {
    const style = { ...this.style };
    const list = given.replace(/([34]8):2:\d*:(\d+:\d+:\d+)/g, '$1:2:$2').split(/[;:]/).map(Number);
    for (let i = 0; i < list.length; i++) {
      const n = list[i];
      const color = () => {
        if (list[i + 1] === 5) return palette(list[i += 2]);
        if (list[i + 1] !== 2) return undefined;
        i += 4;
        return `rgb(${list.slice(i - 2, i + 1).map((v) => Math.min(v | 0, 255)).join(' ')})`;
      };
      if (n === 0) for (const key of Object.keys(style)) delete style[key];
      else if (n === 1) style.bold = true;
      else if (n === 2) style.faint = true;
      else if (n === 3) style.italic = true;
      else if (n === 4) style.underline = true;
      else if (n === 7) style.inverse = true;
      else if (n === 9) style.strike = true;
      else if (n === 22) style.bold = style.faint = false;
      else if (n === 23) style.italic = false;
      else if (n === 24) style.underline = false;
      else if (n === 27) style.inverse = false;
      else if (n === 29) style.strike = false;
      else if (n >= 30 && n <= 37) style.fg = palette(n - 30);
      else if (n === 38) style.fg = color();
      else if (n === 39) style.fg = undefined;
      else if (n >= 40 && n <= 47) style.bg = palette(n - 40);
      else if (n === 48) style.bg = color();
      else if (n === 49) style.bg = undefined;
      else if (n >= 90 && n <= 97) style.fg = palette(n - 82);
      else if (n >= 100 && n <= 107) style.bg = palette(n - 92);
    }
    this.style = Object.values(style).some(Boolean) ? Object.freeze(style) : plain;
  }
}

const named = ['#3b4252', '#ff7b72', '#7ee787', '#e3b341', '#79c0ff', '#d2a8ff', '#76e3ea', '#c9d1d9', '#8b949e', '#ffa198', '#a5f3b0', '#f2cc60', '#a5d6ff', '#e2c5ff', '#b3f0ff', '#ffffff'];

// palette is one of xterm's 256 colours.
function palette(n) {
  if (!(n >= 0 && n < 256)) return undefined;
  if (n < 16) return named[n];
  if (n >= 232) return `rgb(${Array(3).fill(8 + (n - 232) * 10).join(' ')})`;
  const part = (v) => (v ? 55 + v * 40 : 0);
  return `rgb(${[Math.floor((n - 16) / 36), Math.floor((n - 16) / 6) % 6, (n - 16) % 6].map(part).join(' ')})`;
}

// draw shows the rows of a screen that have changed.
function draw(screen, to) {
  while (to.children.length > screen.rows) to.lastChild.remove();
  while (to.children.length < screen.rows) {
    to.append(document.createElement('div'));
    screen.dirty.add(to.children.length - 1);
  }
  const { cursorAt } = to;
  if (cursorAt < screen.rows) screen.dirty.add(cursorAt);
  if (screen.cursor) screen.dirty.add(to.cursorAt = screen.y);
  for (const y of screen.dirty) {
    const spans = [];
    let last = null;
    screen.grid[y].forEach(({ c, s }, x) => {
      const at = screen.cursor && y === screen.y && x === Math.min(screen.x, screen.columns - 1);
      if (!last || last.s !== s || at || last.at) {
        last = { s, at, text: '' };
        spans.push(last);
      }
      last.text += c;
    });
    to.children[y].replaceChildren(...spans.map(span));
  }
  screen.dirty.clear();
}

function span({ s, at, text: shown }) {
  if (s === plain && !at) return document.createTextNode(shown);
  const e = document.createElement('span');
  e.textContent = shown;
  let [fg, bg] = [s.fg, s.bg];
  if (Boolean(s.inverse) !== at) [fg, bg] = [bg ?? '#0d1117', fg ?? '#c9d1d9'];
  if (fg) e.style.color = fg;
  if (bg) e.style.background = bg;
  if (s.bold) e.style.fontWeight = 'bold';
  if (s.faint) e.style.opacity = '.7';
  if (s.italic) e.style.fontStyle = 'italic';
  const decoration = [s.underline && 'underline', s.strike && 'line-through'].filter(Boolean).join(' ');
  if (decoration) e.style.textDecoration = decoration;
  return e;
}

// read makes events of an asciicast: { at, code, data }, at in seconds.
export function read(cast) {
  const [first, ...rest] = cast.split('\n');
  const head = JSON.parse(first);
  if (head.version !== 2) throw new Error('The recording isn\'t an asciicast of version 2.');
  const events = [];
  for (const line of rest) {
    if (!line) continue;
    let event;
    try {
      event = JSON.parse(line);
    } catch {
      break; // it was broken off
    }
    const [at, code, data] = event;
    if ((code === 'o' || code === 'r') && typeof data === 'string' && at >= 0) events.push({ at, code, data });
  }
  return { columns: head.width || 80, rows: head.height || 24, events };
}

// shorten makes pauses that are longer than a pause of so many seconds such ones.
export function shorten(events, pause) {
  let last = 0;
  let now = 0;
  return events.map((e) => {
    now += Math.min(Math.max(e.at - last, 0), pause);
    last = Math.max(e.at, last);
    return now;
  });
}

// Play is a recording that is somewhere: next is the event that comes next.
export class Play {
  constructor({ columns, rows, events }) {
    this.events = events;
    this.start = new Screen(columns, rows);
    this.screen = this.start.clone();
    this.next = 0;
    this.kept = []; // screens to go back to, in steps of the bytes between them
    this.since = 0;
  }

  // to shows all events before one, or as many of them as it can until a time: it
  // answers whether these were all. It goes back to a screen that was kept.
  to(next, until = Infinity) {
    if (next < this.next) {
      const from = this.kept.findLast((k) => k.next <= next) ?? { next: 0, screen: this.start };
      this.screen = from.screen.clone();
      this.next = from.next;
      this.since = 0;
    }
    for (; this.next < next; this.next++) {
      if (performance.now() > until) return false;
      const { code, data } = this.events[this.next];
      if (code === 'r') this.screen.resize(...data.split('x').map(Number));
      else this.screen.write(data);
      this.since += data.length;
      if (this.since > 1 << 18 && this.next + 1 > (this.kept.at(-1)?.next ?? 0) && this.kept.length * this.screen.columns * this.screen.rows < most.kept) {
        this.kept.push({ next: this.next + 1, screen: this.screen.clone() });
        this.since = 0;
      }
    }
    return true;
  }
}

const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds) % 60).padStart(2, '0')}`;

function player(box) {
  const part = (name) => box.querySelector(`[data-player="${name}"]`);
  const [toggle, seek, speed, shorter, time, shown, problem] = ['play', 'seek', 'speed', 'shorten', 'time', 'screen', 'problem'].map(part);
  let play = null; // once it has come
  let times = [];
  let now = 0;
  let running = false;
  let before = 0;
  let behind = 0; // the frame in which what is missing of the screen is made up for

  const length = () => times.at(-1) ?? 0;

  function show() {
    let next = play.next;
    while (next < times.length && times[next] <= now) next++;
    while (next > 0 && times[next - 1] > now) next--;
    const all = play.to(next, performance.now() + turn);
    draw(play.screen, shown);
    if (!all && !behind) {
      behind = requestAnimationFrame(() => {
        behind = 0;
        show();
      });
    }
    seek.value = now;
    const told = `${clock(now)} of ${clock(length())}`;
    if (time.textContent !== told) time.textContent = told;
    seek.setAttribute('aria-valuetext', told);
  }

  function run(on) {
    running = on;
    toggle.textContent = on ? 'Pause' : 'Play';
    if (!on) return;
    if (now >= length()) now = 0;
    before = performance.now();
    requestAnimationFrame(tick);
  }

  function tick(at) {
    if (!running) return;
    now = Math.min(now + Math.max(at - before, 0) / 1000 * speed.value, length());
    before = at;
    show();
    if (now >= length()) run(false);
    else requestAnimationFrame(tick);
  }

  function pace() {
    const next = play.next;
    times = shorten(play.events, shorter.checked ? 2 : Infinity);
    now = next > 0 ? times[next - 1] : 0;
    seek.max = length();
    seek.step = Math.max(length() / 1000, .01);
    show();
  }

  async function load() {
    toggle.disabled = true;
    problem.hidden = true;
    try {
      if (box.dataset.size > most.bytes) throw new Error('It is too long to be played here: download it.');
      const response = await fetch(box.dataset.cast);
      if (!response.ok) throw new Error(response.status === 401 ? 'Your login has ended; log in again.' : `The hub answered ${response.status}.`);
      play = new Play(read(await response.text()));
      seek.disabled = false;
      shown.hidden = false;
      pace();
      run(true);
    } catch (error) {
      problem.textContent = error instanceof TypeError ? 'The hub can\'t be reached at the moment. Try again.' : error.message;
      problem.hidden = false;
    } finally {
      toggle.disabled = false;
      toggle.focus();
    }
  }

  toggle.addEventListener('click', () => (play ? run(!running) : load()));
  seek.addEventListener('input', () => {
    now = Number(seek.value);
    show();
  });
  shorter.addEventListener('change', () => play && pace());
}

for (const box of document.querySelectorAll('[data-cast]')) player(box);
