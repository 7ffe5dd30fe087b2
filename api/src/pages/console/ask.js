
// Calls of the REST API: what the page polls, how often, and what it shows after a refusal or without an answer.

const KEY = document.querySelector("meta[name=darkroom-key]").content;
const EVERY_MS = 2_000;
const ANSWER_MS_MAX = 10_000;
const BACK_OFF_MS_MAX = 30_000;

/** Every path that the page calls. A test checks that the OpenAPI document has them. */
const ROUTES = {
  stats: "GET /v1/stats",
  pause: "POST /v1/queues/{model}/pause",
  resume: "POST /v1/queues/{model}/resume",
  workers: "GET /v1/workers",
  drain: "POST /v1/workers/{id}/drain",
  jobs: "GET /v1/jobs",
  job: "GET /v1/jobs/{id}",
  explain: "GET /v1/jobs/{id}/explain",
  retry: "POST /v1/jobs/{id}/retry",
  cancel: "POST /v1/jobs/{id}/cancel",
};

/** Status 0: there was no answer. */
class Refusal extends Error {
  constructor(status, problem = null, retryAfterMs = 0) {
    super(problem?.detail ?? `the answer was ${status}`);
    Object.assign(this, { status, code: problem?.code ?? null, retryAfterMs });
  }
}

/** Whether to try again: after no answer, a 5xx, or a rate limit. Any other refusal would be repeated. */
const passes = ({ status }) => !(status >= 400 && status < 500) || status === 408 || status === 429;

async function ask(route, names = {}, query = {}) {
  const [method, template] = route.split(" ");
  const path = template.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(names[name]));
  // An absolute URL: if the page's URL contains a password, browsers refuse relative ones.
  const address = new URL(path, location.origin);
  address.search = new URLSearchParams(query);
  const headers = KEY ? { Authorization: `Bearer ${KEY}` } : {};
  const signal = AbortSignal.timeout(ANSWER_MS_MAX);
  let answer, body;
  try {
    // Without credentials: a 401 must not open the password dialog of the browser.
    answer = await fetch(address, { method, headers, signal, cache: "no-store", credentials: "omit" });
    body = await answer.text();
  } catch {
    throw new Refusal(0);
  }
  const offMs = Date.parse(answer.headers.get("date")) - Date.now();
  if (Math.abs(offMs - aheadMs) > 2_000) aheadMs = offMs; // the header has whole seconds
  try {
    body = JSON.parse(body);
  } catch {
    body = null; // empty, or the HTML of a proxy
  }
  if (answer.ok) {
    answeredAt = new Date();
    return body;
  }
  throw new Refusal(answer.status, body, Number(answer.headers.get("retry-after")) * 1_000 || 0);
}

/** Polls one path while the page is visible, one request at a time. */
class Feed {
  isBusy = false;
  /** A refusal that is not tried again until something changes. */
  isOver = false;
  again = false;
  fault = null;
  faults = 0;
  notBefore = 0;

  constructor(look, show, refuse) {
    Object.assign(this, { look, show, refuse });
  }

  /** Polls at once, or as soon as the running request has ended. */
  restart() {
    this.isOver = false;
    this.again = this.isBusy;
    this.turn();
  }

  async turn() {
    clearTimeout(this.timer);
    if (this.isBusy || this.isOver || document.visibilityState !== "visible") return;
    if (this.notBefore > Date.now()) return this.turnAt(this.notBefore);
    this.isBusy = true;
    const began = Date.now();
    let fault = null;
    try {
      this.show(await this.look());
    } catch (caught) {
      fault = caught;
    }
    this.isBusy = false;
    this.settle(fault, Date.now() - began);
  }

  settle(fault, tookMs) {
    this.fault = fault && passes(fault) ? fault : null;
    this.faults = this.fault ? this.faults + 1 : 0;
    this.isOver = fault !== this.fault && !this.again;
    if (!this.again) this.refuse(this.isOver ? fault : null);
    tellOfFaults();
    if (this.isOver) return;
    if (this.fault) {
      const backOffMs = Math.min(EVERY_MS * 2 ** this.faults, BACK_OFF_MS_MAX) * (0.75 + Math.random() / 4);
      this.notBefore = Date.now() + Math.max(backOffMs, fault.retryAfterMs ?? 0);
    }
    // A slow path is polled less often: its requests take at most a fifth of the time.
    const waitMs = this.again ? 0 : Math.max(EVERY_MS, 4 * tookMs);
    this.again = false;
    this.turnAt(Math.max(this.notBefore, Date.now() + waitMs));
  }

  turnAt(time) {
    this.timer = setTimeout(() => this.turn(), time - Date.now());
  }
}

const textOrNothing = (text) => (text ? [text] : []);
let answeredAt = new Date();

/** The text stays the same while the state lasts, because screen readers read each change. */
function tellOfFaults() {
  const fault = FEEDS.map((feed) => feed.fault).find(Boolean);
  const said = fault?.status === 0 ? "No answer from the service" : `“${fault?.message}”`;
  draw($("banner"), fault ? `${said} since ${clock(answeredAt)}, asking again` : "", textOrNothing);
  draw($("as-of"), `as of ${clock(answeredAt)}`);
  document.body.classList.toggle("stale", Boolean(fault) || statsFeed.isOver);
}

/** Shows a refusal in place of the refused content; hides it without one. */
const inPlaceOf = (section) => (fault) => {
  const note = $(section).querySelector(".refusal");
  note.hidden = !fault;
  $(section).querySelector(".content").hidden = Boolean(fault);
  const hint = fault?.status === 401 ? " Reload the page to give another key." : "";
  draw(note, fault && [fault.message + hint, fault.code], (said) => (said ? [said[0], " ", said[1] ? whatToDo(said[1]) : ""] : []));
};

let saidUntil;

function say(text, code = null) {
  clearTimeout(saidUntil);
  $("said").replaceChildren(text, ...(code ? [" ", whatToDo(code)] : []));
  saidUntil = setTimeout(() => $("said").replaceChildren(), 8_000);
}

let isActing = false;

/** Runs one action at a time, shows the text that it returns, then polls what it changed. */
async function act(does, ...feeds) {
  if (isActing) return;
  isActing = true;
  try {
    const done = await does();
    if (done) say(done);
  } catch (fault) {
    say(fault.status === 0 ? "No answer: look whether it was done." : fault.message, fault.code);
  }
  isActing = false;
  feeds.forEach((feed) => feed.restart());
}

/** Asks for confirmation and a reason. The reason may be empty; null: not confirmed. */
function asked(title, text, yes, wantsWhy = false) {
  const why = $("asked").querySelector("input");
  $("asked-title").textContent = title;
  $("asked-text").textContent = text;
  $("asked-yes").textContent = yes;
  $("asked-why").hidden = !wantsWhy;
  why.value = $("asked").returnValue = "";
  $("asked").showModal();
  (wantsWhy ? why : $("asked-no")).focus();
  return new Promise((resolve) => {
    $("asked").onclose = () => resolve($("asked").returnValue === "yes" ? why.value.trim() : null);
  });
}

$("asked").querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault(); // no form of this page is sent
  $("asked").close("yes");
});
$("asked-no").addEventListener("click", () => $("asked").close(""));
