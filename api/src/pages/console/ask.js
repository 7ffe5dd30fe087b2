
// What is asked of the REST API, how often, and what is said when it refuses or is silent.

const KEY = document.querySelector("meta[name=darkroom-key]").content;
const EVERY_MS = 2_000;
const ANSWER_MS_MAX = 10_000;
const BACK_OFF_MS_MAX = 30_000;

/** Whatever is asked: a test looks each of them up in the OpenAPI document. */
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

/** Status 0: nobody answered. */
class Refusal extends Error {
  constructor(status, problem = null, retryAfterMs = 0) {
    super(problem?.detail ?? `the answer was ${status}`);
    Object.assign(this, { status, code: problem?.code ?? null, retryAfterMs });
  }
}

/** Silence, the service's trouble, and a key that asks too fast pass. Any other refusal would come again. */
const passes = ({ status }) => !(status >= 400 && status < 500) || status === 408 || status === 429;

async function ask(route, names = {}, query = {}) {
  const [method, template] = route.split(" ");
  const path = template.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(names[name]));
  // Not relative to the page: the page's own address may hold a password, and then no relative one is asked for.
  const address = new URL(path, location.origin);
  address.search = new URLSearchParams(query);
  const headers = KEY ? { Authorization: `Bearer ${KEY}` } : {};
  const signal = AbortSignal.timeout(ANSWER_MS_MAX);
  let answer, body;
  try {
    // Without credentials: a refusal must not make the browser ask for a password.
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
    body = null; // nothing, or the words of somebody between
  }
  if (answer.ok) {
    answeredAt = new Date();
    return body;
  }
  throw new Refusal(answer.status, body, Number(answer.headers.get("retry-after")) * 1_000 || 0);
}

/** Looks at one thing again and again, one request at a time, while somebody looks at the page. */
class Feed {
  isBusy = false;
  /** Refused for good, until something changes. */
  isOver = false;
  again = false;
  fault = null;
  faults = 0;
  notBefore = 0;

  constructor(look, show, refuse) {
    Object.assign(this, { look, show, refuse });
  }

  /** Looks at once, or as soon as it may. */
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
    // What is slow to answer is asked less often: at least four fifths of the time are for others.
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

/** In the same words for as long as it lasts, since they are read aloud. */
function tellOfFaults() {
  const fault = FEEDS.map((feed) => feed.fault).find(Boolean);
  const said = fault?.status === 0 ? "No answer from the service" : `“${fault?.message}”`;
  draw($("banner"), fault ? `${said} since ${clock(answeredAt)}, asking again` : "", textOrNothing);
  draw($("as-of"), `as of ${clock(answeredAt)}`);
  document.body.classList.toggle("stale", Boolean(fault) || statsFeed.isOver);
}

/** Shows a refusal where that would be which it refuses; nothing if there is none. */
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

/** Does one thing at a time and says what came of it, in the words that it returns; then looks at what it changed. */
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

/** Asks before something is done: why, maybe in no words; null for no. */
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
  event.preventDefault(); // no form of this page goes anywhere
  $("asked").close("yes");
});
$("asked-no").addEventListener("click", () => $("asked").close(""));
