// What the page does beyond being read. Elements say what they want:
//
//   data-live    (with an id) becomes what it is when the view is fetched anew
//   data-every   seconds between fetches, while someone looks
//   data-events  server-sent events of the scan that the view is about
//   data-post    a button that makes this call; data-method in place of POST,
//                data-body is what it sends, data-sure asks first, data-go is
//                where to go afterwards
//   data-form    a form whose fields are the members of a call's body, a.b
//                being b within a, or {a} within its action; data-list: commas
//                part its elements, data-hours: so many from now on. A fieldset
//                is a member, too, if it has data-unless and that one isn't
//                there. data-method in place of POST, data-match is the version that
//                it changes, data-new that there must be none; data-base are
//                members that it has no fields for. data-go is where to go
//                afterwards, {id} a member of the answer; data-shows is the
//                member that is shown instead
//   data-copy    a button that copies the text of the element with that id
//   the rest: see below
//
// All that comes from the hub is set as text, or is HTML that the hub escaped.
'use strict';

const ended = 'Your login has ended. Open a new login link in another tab, then go on here; nothing that you typed is lost.';
const lost = 'The hub can\'t be reached at the moment.';
const again = ' Try again; nothing that you typed is lost.';
const changed = 'The hub is of another version now. Reload the page to go on; what you typed stays here until you do.';

const one = (selector, of = document) => of.querySelector(selector);
const all = (selector, of = document) => of.querySelectorAll(selector);

function say(text) {
  const notice = document.getElementById('notice');
  if (notice.textContent !== text) notice.textContent = text;
  notice.hidden = !text;
}

// Refused is what the hub answers when it doesn't do what it was asked.
class Refused extends Error {
  constructor(detail, errors) {
    super(detail);
    this.errors = errors ?? [];
  }
}

// send makes a request and answers with the text that comes. What the hub
// refuses, or a hub that can't be reached, is a Refused that says what to do.
async function send(path, request) {
  let response, text;
  try {
    response = await fetch(path, request);
    text = await response.text();
  } catch {
    throw new Refused(lost + again);
  }
  if (response.ok) return text;
  if (response.status === 401) throw new Refused(ended);
  let answer;
  try {
    answer = JSON.parse(text);
  } catch {
    const said = parse(text).querySelector('.problem, .reason')?.textContent;
    answer = { detail: said ?? `The hub answered ${response.status}.` };
  }
  throw new Refused(answer.detail || `The hub answered ${response.status}.`, answer.errors);
}

async function call(path, body, method = 'POST', headers = {}) {
  const request = { method, headers };
  if (body) {
    headers['Content-Type'] = 'application/json';
    request.body = JSON.stringify(body);
  }
  const text = await send(path, request);
  return text ? JSON.parse(text) : {};
}

const parse = (text) => new DOMParser().parseFromString(text, 'text/html');

// part fetches the part of a view that belongs into the page.
async function part(path, request = {}) {
  const headers = { ...request.headers, 'Reeve-Part': '1' };
  return [...parse(await send(path, { ...request, headers })).body.childNodes];
}

// held resolves when the pointer's main button isn't down, and what it did is
// done: what someone presses isn't moved away meanwhile. The page isn't always
// told of the end, such as by a menu of the browser's, so it ends by itself.
let held = Promise.resolve();
document.addEventListener('pointerdown', (event) => {
  if (event.button !== 0) return;
  held = new Promise((done) => {
    for (const end of ['pointerup', 'pointercancel']) document.addEventListener(end, () => setTimeout(done), { capture: true, once: true });
    setTimeout(done, 5000);
  });
}, true);

// identity is what makes a node the same one in a view that is fetched anew, as
// far as anything does: no link or button becomes another one.
function identity(node) {
  const of = node.nodeName === 'TR' ? node.querySelector('[id], a[href], [data-post]') ?? node : node;
  return [node.nodeName, of.id, of.dataset?.post, of.getAttribute?.('href'), of.getAttribute?.('name')].join(' ');
}

// become makes old what now is, in place: what someone points at, has opened,
// typed or selected in it stays.
function become(old, now) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== now.data) old.data = now.data;
    return;
  }
  if (old.isEqualNode(now)) return;
  const kept = (name) => name === 'open' && old.matches('details, dialog');
  for (const { name } of [...old.attributes]) {
    if (!now.hasAttribute(name) && !kept(name)) old.removeAttribute(name);
  }
  for (const { name, value } of now.attributes) {
    if (old.getAttribute(name) !== value && !kept(name)) old.setAttribute(name, value);
  }
  let at = old.firstChild;
  for (const child of [...now.childNodes]) {
    const wanted = identity(child);
    let same = at;
    while (same && identity(same) !== wanted) same = same.nextSibling;
    if (!same) {
      old.insertBefore(child, at);
      continue;
    }
    while (at !== same) {
      at = at.nextSibling;
      at.previousSibling.remove();
    }
    at = same.nextSibling;
    become(same, child);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

// refresh fetches the view anew and shows what has changed.
async function refresh() {
  let response, text;
  try {
    response = await fetch(location.href, { signal: AbortSignal.timeout(60e3) });
    text = await response.text();
  } catch {
    say(lost + ' It is tried again.');
    return;
  }
  if (!response.ok) {
    say(response.status === 401 ? ended : `The hub answered ${response.status}; reload to see why.`);
    return;
  }
  const fresh = parse(text);
  if (fresh.documentElement.dataset.version !== document.documentElement.dataset.version) {
    say(changed);
    return;
  }
  const said = document.getElementById('notice').textContent;
  if (said.startsWith(lost) || said === ended) say('');
  await held;
  for (const old of all('[data-live]')) {
    const now = fresh.getElementById(old.id);
    if (!now) continue;
    const focus = old.contains(document.activeElement) && document.activeElement;
    become(old, now);
    // What had the focus may be elsewhere now; if it is gone, the view has it.
    if (focus && !focus.isConnected) {
      const same = [...all(focus.nodeName, old)].find((n) => identity(n) === identity(focus));
      (same ?? document.getElementById('main')).focus({ preventScroll: true });
    }
  }
  controls = null;
}

const every = one('[data-every]')?.dataset.every;
if (every) {
  let busy = false;
  setInterval(async () => {
    if (document.hidden || busy) return;
    busy = true;
    await refresh();
    busy = false;
  }, every * 1000);
}

// A running scan. The hub renders what a change of state means; only the
// progress is set here.
function follow(path) {
  const events = new EventSource(path);
  let state, scan;
  const paint = () => {
    const { done, total, control } = scan.progress;
    const bar = document.getElementById('progress');
    if (!bar || !total) return;
    bar.max = total;
    bar.value = done;
    document.getElementById('progress-text').textContent = `${done} of ${total} controls${control ? '; last ' + control : ''}`;
  };
  const show = (event) => {
    scan = JSON.parse(event.data);
    paint();
    const now = [scan.status, scan.reason, scan.attempt, scan.instance].join('\n');
    // What the hub renders may be older than what has come meanwhile.
    if (now !== state) refresh().then(paint);
    state = now;
  };
  events.addEventListener('open', () => say(''));
  events.addEventListener('progress', show);
  events.addEventListener('done', (event) => {
    events.close();
    show(event);
  });
  events.addEventListener('error', () => {
    if (events.readyState !== EventSource.CLOSED) {
      say(lost + ' It is tried again; the scan goes on without this page.');
      return;
    }
    // Refused, and not tried again by the browser.
    refresh();
    setTimeout(follow, 5000, path);
  });
}
const followed = one('[data-events]')?.dataset.events;
if (followed) follow(followed);

async function press(button) {
  button.disabled = true;
  try {
    const { post, method, body } = button.dataset;
    await call(post, body && JSON.parse(body), method);
    say('');
    if (button.dataset.go) location.assign(button.dataset.go);
    else await refresh();
  } catch (refused) {
    say(refused.message);
  } finally {
    button.disabled = false;
  }
}

async function copy(button) {
  const from = document.getElementById(button.dataset.copy);
  const told = one('[data-copied]', button.parentElement);
  try {
    await navigator.clipboard.writeText(from.textContent);
    told.textContent = 'Copied.';
  } catch {
    getSelection().selectAllChildren(from);
    told.textContent = 'The browser doesn\'t let the page copy. It is selected: press Ctrl+C.';
  }
}

const buttons = {
  post: (b) => {
    if (!b.dataset.sure || confirm(b.dataset.sure)) press(b);
  },
  copy,
  credential: openCredential,
  make: makeCredential,
  try: (b) => withForm(b.form, async (form) => {
    const body = JSON.stringify({ Text: document.getElementById(b.dataset.of).value, Scan: form.elements.scan.value });
    document.getElementById('trial').replaceChildren(...await part(b.dataset.try, { method: 'POST', body }));
  }),
};

document.addEventListener('click', (event) => {
  // A row that the browser hasn't made yet is hit instead of its summary.
  if (event.target.matches('.control:not([open])')) event.target.open = true;
  const button = event.target.closest('button[type=button]');
  for (const [name, act] of Object.entries(buttons)) {
    if (button && name in button.dataset) act(button);
  }
});

// withForm runs act, with what goes wrong shown in the form: beside the fields
// that it is about, which have the names of the request's members.
async function withForm(form, act) {
  const problem = one('[data-problem]', form);
  problem.hidden = true;
  for (const field of all('[aria-invalid]', form)) {
    field.removeAttribute('aria-invalid');
    document.getElementById(field.getAttribute('aria-describedby')).textContent = '';
  }
  const pressed = [...all('button', form)].filter((b) => !b.disabled);
  for (const b of pressed) b.disabled = true;
  try {
    await act(form);
  } catch (refused) {
    const rest = [];
    for (const { location: where, message } of refused.errors ?? []) {
      const field = form.elements.namedItem((where ?? '').replace(/^body\./, '').replace(/\[\d+\]$/, ''));
      if (!field?.hasAttribute?.('aria-describedby')) {
        rest.push(message);
        continue;
      }
      field.setAttribute('aria-invalid', 'true');
      document.getElementById(field.getAttribute('aria-describedby')).textContent = message;
    }
    const first = one('[aria-invalid]', form);
    if (rest.length || !first) {
      problem.textContent = rest.join('; ') || refused.message;
      problem.hidden = false;
    }
    first?.focus();
  } finally {
    for (const b of pressed) b.disabled = false;
  }
}

// go leads to a form's data-go, with members of the answer in it.
const go = (form, answer) => location.assign(form.dataset.go.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(answer[name])));

function show(form, text) {
  const made = one('[data-made]', form);
  one('pre', made).textContent = text;
  one('[data-copied]', made).textContent = '';
  made.hidden = false;
}

// member is what a field gives for a call's body.
function member(field, text) {
  switch (field.type) {
    case 'number': return Number(text);
    case 'checkbox': return true;
    case 'textarea': return text; // where it begins may matter
  }
  if ('hours' in field.dataset) return new Date(Date.now() + text * 3600e3).toISOString();
  if ('list' in field.dataset) return text.split(',').map((s) => s.trim()).filter(Boolean);
  return text.trim();
}

async function ask(form) {
  const body = JSON.parse(form.dataset.base ?? '{}');
  for (const [name, text] of new FormData(form)) {
    if (!text.trim()) continue;
    const path = name.split('.');
    const last = path.pop();
    let within = body;
    for (const p of path) within = within[p] ??= {};
    within[last] = member(form.elements.namedItem(name), text);
  }
  for (const set of all('fieldset[data-unless]', form)) {
    if (!body[set.dataset.unless]) body[set.name] ??= {};
  }
  const missing = [];
  const path = form.getAttribute('action').replace(/\{(\w+)\}/g, (_, name) => {
    if (!body[name]) missing.push({ location: name, message: 'It is missing.' });
    const value = encodeURIComponent(body[name] ?? '');
    delete body[name];
    return value;
  });
  if (missing.length) throw new Refused('', missing);
  const { method, match, go: next, shows } = form.dataset;
  const headers = match ? { 'If-Match': match } : 'new' in form.dataset ? { 'If-None-Match': '*' } : {};
  const answer = await call(path, body, method, headers);
  if (next) return go(form, answer);
  if (shows) {
    show(form, answer[shows]);
  } else {
    form.reset();
    form.closest('details')?.removeAttribute('open');
    say('');
  }
  await refresh();
}

document.addEventListener('submit', (event) => {
  const form = event.target;
  const act = form.matches('[data-form]') ? ask : form.matches('[data-upload]') ? upload : null;
  if (act) {
    event.preventDefault();
    withForm(form, act);
  } else if (form.matches('[data-controls]')) {
    event.preventDefault();
    filter(form);
  }
});

// data-upload sends a file to the API; data-file has the hub show one. Either
// takes a file that is dropped on it.
async function upload(form) {
  const file = one('input[type=file]', form).files[0];
  if (!file) throw new Refused('Choose a file.');
  const answer = JSON.parse(await send(form.dataset.upload, { method: 'POST', body: file }));
  if (form.dataset.go) return go(form, answer);
  form.reset();
  await refresh();
}

function look(form) {
  const file = one('input[type=file]', form).files[0];
  if (!file) return;
  withForm(form, async () => {
    document.getElementById('dropped').replaceChildren();
    const shown = await part(form.dataset.file, { method: 'POST', body: file });
    document.getElementById('dropped').replaceChildren(...shown);
    controls = null;
  });
}

document.addEventListener('change', (event) => {
  const form = event.target.closest('[data-file]');
  if (form) look(form);
  if (event.target.matches('[data-reload]')) event.target.form.submit();
});

const drops = (event) => event.dataTransfer?.types.includes('Files') && one('.drop');
document.addEventListener('dragover', (event) => {
  const form = drops(event);
  if (!form) return;
  event.preventDefault();
  form.classList.add('over');
});
document.addEventListener('dragleave', (event) => {
  if (!event.relatedTarget) one('.drop')?.classList.remove('over');
});
document.addEventListener('drop', (event) => {
  const form = drops(event);
  if (!form) return;
  event.preventDefault();
  form.classList.remove('over');
  one('input[type=file]', form).files = event.dataTransfer.files;
  if (form.matches('[data-file]')) look(form);
  else withForm(form, upload);
});

// data-credential: a button whose service the dialog makes a credential for.
let service;
function openCredential(button) {
  service = button.dataset;
  const dialog = document.getElementById('credential');
  one('h2', dialog).textContent = `${button.textContent.replace('…', '')} for ${service.name} of ${service.agent}`;
  one('[data-made]', dialog).hidden = true;
  dialog.showModal();
}

function makeCredential(button) {
  const dialog = document.getElementById('credential');
  withForm(button.form, async (form) => {
    const { holder, expiresIn } = Object.fromEntries(new FormData(form));
    const { agent, type, name } = service;
    const body = { agent, type, name, expiresIn, kind: type === 'kubernetes' ? 'certificate' : 'token' };
    if (holder.trim()) body.holder = holder.trim();
    const made = await call('/api/v1/credentials/service', body);
    show(dialog, type === 'kubernetes' ? kubeconfig(`${agent}-${name}`, made) : JSON.stringify(made, null, 2));
  });
}

function kubeconfig(name, { url, ca, certificate, key }) {
  const quoted = JSON.stringify; // a JSON text is one of YAML
  return `apiVersion: v1
kind: Config
current-context: ${quoted(name)}
clusters:
- name: ${quoted(name)}
  cluster:
    server: ${quoted(url)}
    certificate-authority-data: ${btoa(ca)}
contexts:
- name: ${quoted(name)}
  context:
    cluster: ${quoted(name)}
    user: ${quoted(name)}
users:
- name: ${quoted(name)}
  user:
    client-certificate-data: ${btoa(certificate)}
    client-key-data: ${btoa(key)}
`;
}

// A control's body is fetched when it is opened first, be it before this script
// was there.
async function fill(details) {
  const body = details.open && one(':scope > .body', details);
  if (!body || body.dataset.asked) return;
  body.dataset.asked = '1';
  try {
    const shown = document.createElement('div');
    shown.append(...await part(one('a', body).getAttribute('href')));
    body.replaceWith(shown);
  } catch (refused) {
    delete body.dataset.asked; // opened again, it is asked for again
    say(refused.message);
  }
}
document.addEventListener('toggle', (event) => fill(event.target), true);
for (const details of all('.control[open]')) fill(details);

// data-controls: the filter of a result's controls, as the hub would do it. The
// texts that it looks at beyond what the page shows come when it is first used.
let controls = null; // made ready once
let texts = null;

function ready() {
  controls ??= Array.from(all('.group'), (group) => ({
    group,
    rows: Array.from(all('.control', group), (row) => ({
      row, n: Number(row.id.slice(1)), status: row.dataset.status, hidden: row.hidden, text: row.textContent.toLowerCase(),
    })),
  }));
  return controls;
}

async function loadTexts(form) {
  if (!form.dataset.texts || texts) return;
  texts = [];
  try {
    texts = JSON.parse(await send(form.dataset.texts));
    filter(form);
  } catch (refused) {
    texts = null; // the next key asks again
    say(refused.message);
  }
}

function filter(form) {
  const wanted = new FormData(form);
  const status = wanted.get('status');
  const text = wanted.get('q').trim().toLowerCase();
  let shown = 0;
  for (const { group, rows } of ready()) {
    let some = false;
    for (const r of rows) {
      const hidden = Boolean(status) && r.status !== status || !(texts?.[r.n] ?? r.text).includes(text);
      if (hidden !== r.hidden) r.row.hidden = r.hidden = hidden;
      if (hidden) continue;
      some = true;
      shown++;
    }
    if (group.hidden === some) group.hidden = !some;
  }
  document.getElementById('shown').textContent = shown;
  if (form.dataset.texts) {
    const query = new URLSearchParams([...wanted].filter(([name, value]) => value.trim() && (name !== 'by' || new URLSearchParams(location.search).has('by'))));
    history.replaceState(null, '', location.pathname + (query.size ? '?' + query : ''));
  }
}

document.addEventListener('input', (event) => {
  const form = event.target.closest('[data-controls]');
  if (!form || event.target.matches('[data-reload]')) return;
  if (event.target.name === 'q') loadTexts(form);
  filter(form);
});

// What is typed into a filter while the page is being read is put to use.
const opened = one('[data-controls]');
if (opened && opened.elements.q.value !== opened.elements.q.defaultValue) filter(opened);

// A slash leads to the search.
document.addEventListener('keydown', (event) => {
  if (event.key !== '/' || event.ctrlKey || event.metaKey || event.altKey || event.target.closest('input, textarea, select, dialog')) return;
  const search = one('input[type=search]') ?? one('.filter input:not([type=hidden]), .filter select');
  if (!search) return;
  event.preventDefault();
  search.focus();
  search.select?.();
});

if (new URLSearchParams(location.search).has('full') && one('.control')) print();

// data-knock: whoever comes by a link on another site is asked to log in,
// since browsers hold a strict cookie back; a visit from here has it.
if (one('[data-knock]')) {
  fetch('/api/v1/whoami').then((response) => {
    if (response.ok) location.replace(location.pathname + location.search);
  }, () => {});
}
