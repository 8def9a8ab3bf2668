// What the page does beyond being read. Elements say what they want:
//
//   data-live    (with an id) is replaced when the view is fetched anew
//   data-every   seconds between fetches, while someone looks
//   data-events  server-sent events of the scan that the view is about
//   data-post    a button that makes this call; data-sure asks first,
//                data-go is where to go afterwards
//   data-scan, data-controls, data-knock: see below
//
// All that comes from the hub is set as text, or is HTML that the hub escaped.
'use strict';

const ended = 'Your login has ended. Open a new login link in another tab, then go on here; nothing that you typed is lost.';
const lost = 'The hub can\'t be reached at the moment.';

function say(text) {
  const notice = document.getElementById('notice');
  if (notice.textContent !== text) notice.textContent = text;
  notice.hidden = !text;
}

// Refused is what the API answers when it doesn't do what it was asked.
class Refused extends Error {
  constructor(detail, errors) {
    super(detail);
    this.errors = errors ?? [];
  }
}

async function call(path, body) {
  const request = { method: 'POST' };
  if (body) {
    request.headers = { 'Content-Type': 'application/json' };
    request.body = JSON.stringify(body);
  }
  const response = await fetch(path, request).catch(() => {
    throw new Refused(lost + ' Try again; nothing that you typed is lost.');
  });
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  if (response.status === 401) throw new Refused(ended);
  throw new Refused(answer.detail ?? `The hub answered ${response.status}.`, answer.errors);
}

// refresh fetches the view anew and shows what has changed. What has the
// focus stays as it is unless the change is what someone waits for.
async function refresh(waited) {
  const response = await fetch(location.href).catch(() => null);
  if (!response?.ok) {
    say(!response ? lost : response.status === 401 ? ended : `The hub answered ${response.status}; reload to see why.`);
    return;
  }
  const fresh = new DOMParser().parseFromString(await response.text(), 'text/html');
  if ([lost, ended].includes(document.getElementById('notice').textContent)) say('');
  for (const old of document.querySelectorAll('[data-live]')) {
    const now = fresh.getElementById(old.id);
    const focused = old.contains(document.activeElement);
    if (!now || focused && !waited || old.isEqualNode(now)) continue;
    old.replaceWith(now);
    if (focused) document.getElementById('main').focus({ preventScroll: true });
  }
}

const every = document.querySelector('[data-every]')?.dataset.every;
if (every) {
  setInterval(() => {
    if (!document.hidden) refresh(false);
  }, every * 1000);
}

// A running scan. The hub renders what a change of state means; only the
// progress is set here.
function follow(path) {
  const events = new EventSource(path);
  let state;
  const show = (event) => {
    const scan = JSON.parse(event.data);
    const { done, total, control } = scan.progress;
    const bar = document.getElementById('progress');
    if (bar && total) {
      bar.max = total;
      bar.value = done;
      document.getElementById('progress-text').textContent = `${done} of ${total} controls${control ? '; last ' + control : ''}`;
    }
    const now = [scan.status, scan.reason, scan.attempt, scan.instance].join('\n');
    if (now !== state) refresh(true);
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
    refresh(true);
    setTimeout(follow, 5000, path);
  });
}
const followed = document.querySelector('[data-events]')?.dataset.events;
if (followed) follow(followed);

document.addEventListener('click', async (event) => {
  const button = event.target.closest('button[data-post]');
  if (!button || button.dataset.sure && !confirm(button.dataset.sure)) return;
  button.disabled = true;
  try {
    await call(button.dataset.post);
    say('');
    if (button.dataset.go) location.assign(button.dataset.go);
    else await refresh(true);
  } catch (refused) {
    say(refused.message);
  } finally {
    button.disabled = false;
  }
});

// data-scan: the form for a scan. Its fields have the names of the request's
// members, and so find the errors that are about them.
async function ask(form) {
  const problem = form.querySelector('[data-problem]');
  const button = form.querySelector('button');
  problem.hidden = true;
  for (const field of form.querySelectorAll('[aria-invalid]')) {
    field.removeAttribute('aria-invalid');
    document.getElementById(field.getAttribute('aria-describedby')).textContent = '';
  }
  const body = { target: {}, scan: {} };
  for (const [name, value] of new FormData(form)) {
    const [part, member] = name.split('.');
    if (value.trim()) body[part][member] = value.trim();
  }
  button.disabled = true;
  try {
    const scan = await call(form.getAttribute('action'), body);
    location.assign('/scans/' + encodeURIComponent(scan.id));
  } catch (refused) {
    const rest = [];
    for (const { location: where, message } of refused.errors) {
      const field = form.elements.namedItem((where ?? '').replace(/^body\./, ''));
      if (!field) {
        rest.push(message);
        continue;
      }
      field.setAttribute('aria-invalid', 'true');
      document.getElementById(field.getAttribute('aria-describedby')).textContent = message;
    }
    const first = form.querySelector('[aria-invalid]');
    if (rest.length || !first) {
      problem.textContent = rest.join('; ') || refused.message;
      problem.hidden = false;
    }
    first?.focus();
  } finally {
    button.disabled = false;
  }
}

document.addEventListener('submit', (event) => {
  if (event.target.matches('[data-scan]')) {
    event.preventDefault();
    ask(event.target);
  } else if (event.target.matches('[data-controls]')) {
    event.preventDefault();
    filter(event.target);
  }
});

// data-controls: the filter of a result's controls, as the hub would do it.
const texts = new WeakMap();

function textOf(control) {
  let text = texts.get(control);
  if (text === undefined) {
    text = Array.from(control.querySelectorAll('.find'), (e) => e.textContent).join('\n').toLowerCase();
    texts.set(control, text);
  }
  return text;
}

function filter(form) {
  const wanted = new FormData(form);
  const status = wanted.get('status');
  const text = wanted.get('q').trim().toLowerCase();
  let shown = 0;
  for (const control of document.querySelectorAll('.control')) {
    control.hidden = status && control.dataset.status !== status || !textOf(control).includes(text);
    shown += !control.hidden;
  }
  document.getElementById('shown').textContent = shown;
  const query = new URLSearchParams([...wanted].filter(([, value]) => value.trim()));
  history.replaceState(null, '', location.pathname + (query.size ? '?' + query : ''));
}

document.addEventListener('input', (event) => {
  const form = event.target.closest('[data-controls]');
  if (form) filter(form);
});

// data-knock: whoever comes by a link on another site is asked to log in,
// since browsers hold a strict cookie back; a visit from here has it.
if (document.querySelector('[data-knock]')) {
  fetch('/api/v1/whoami').then((response) => {
    if (response.ok) location.replace(location.pathname + location.search);
  }, () => {});
}
