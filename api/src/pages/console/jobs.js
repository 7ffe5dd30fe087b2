
// The jobs of the key's owner; one of them may be open.

const PAGE_JOBS = 25;
const RESULT_CHARS_MAX = 4_000;
const STAGES = ["queue", "fetch", "decode", "preprocess", "batch_wait", "infer", "postprocess", "complete"];

const list = { jobs: null, cursor: null, isOlder: false };
const open = { id: null, job: null, explanation: null, refusal: null };

/** The fragment of the URL, so that the view can be reloaded and shared: `all`, a status, or the id of a job. */
const view = () => location.hash.slice(1) || "all";
const isOneJob = () => view().startsWith("job_");
/** The list is not refreshed while older pages or a job are open. */
const isStill = () => list.isOlder || open.id !== null;

const hasEnded = (job) => ["succeeded", "failed", "canceled", "expired"].includes(job.status);
const secondsBetween = (from, to) => (Date.parse(to) - Date.parse(from)) / 1000;
const lines = (value) => JSON.stringify(value, null, 1).slice(0, RESULT_CHARS_MAX);

function timeOf(job) {
  if (hasEnded(job)) return `took ${span(secondsBetween(job.created_at, job.finished_at))}`;
  if (job.status === "running") return `runs for ${age(job.started_at)}`;
  return secondsSince(job.run_at) < 0 ? `due in ${age(job.run_at)}` : `waits for ${age(job.run_at)}`;
}

function attemptsOf({ attempts }) {
  return `${attempts.charged} of ${attempts.max}${attempts.interruptions ? `, ${attempts.interruptions} lost` : ""}`;
}

const fold = ([id, isOpen]) => {
  const attributes = { class: "fold", type: "button", title: id, "aria-expanded": isOpen, onclick: () => openJob(isOpen ? null : id) };
  if (isOpen) attributes["aria-controls"] = "detail";
  return [h("button", attributes, `${id.slice(0, 12)}…${id.slice(-6)}`)];
};

const JOBS = [
  ["Job", "short", (cell, job) => draw(cell, [job.id, job.id === open.id], fold)],
  ["Status", "short", (cell, job) => draw(cell, job.status, (status) => [state(status)])],
  ["Why", "", (cell, job) => draw(cell, job.error?.title ?? job.status_reason?.replaceAll("_", " ") ?? null)],
  ["Model", "", (cell, { resolved_model: model }) => draw(cell, `${model.name}:${model.version}`)],
  ["Made", "number", (cell, { created_at: at }) => draw(cell, [`${age(at)} ago`, at], timed)],
  ["Time", "number", (cell, job) => draw(cell, timeOf(job))],
  ["Attempts", "number", (cell, job) => draw(cell, attemptsOf(job))],
];

const jobs = new Table("jobs", JOBS, (item) => item.key ?? item.id);

function drawJobs() {
  for (const chip of document.querySelectorAll(".chips a")) chip.setAttribute("aria-current", chip.hash === `#${view()}`);
  if (list.jobs === null) return;
  const detail = { key: `${open.id} opened`, columns: [["", "detail", fillDetail]] };
  jobs.show(list.jobs.flatMap((job) => (job.id === open.id ? [job, detail] : [job])));
  const isNone = list.jobs.length === 0;
  $("jobs").querySelector(".scroll").hidden = isNone;
  $("jobs").querySelector(".empty").hidden = !isNone || view() !== "all";
  $("none").hidden = !isNone || view() === "all";
  draw($("none"), `No job has the status ${view()}.`);
  $("more").hidden = list.cursor === null;
  $("newest").hidden = !isStill() || isOneJob();
  draw($("held"), isStill() && !isOneJob() ? "The list stands still while you read." : "", textOrNothing);
}

/** Opens a job and closes the previous one; null opens none. */
function openJob(id) {
  if (id === null && isOneJob()) {
    location.hash = "all";
    return;
  }
  Object.assign(open, { id, job: null, explanation: null, refusal: null });
  drawJobs();
  openFeed.restart();
  if (!isStill()) jobsFeed.restart();
}

/** The current state of a job. */
function take(job, explanation = null) {
  list.jobs = list.jobs?.map((known) => (known.id === job.id ? job : known)) ?? null;
  if (open.id === job.id) Object.assign(open, { job, explanation, refusal: null });
  drawJobs();
}

const retry = (id) => act(async () => {
  take(await ask(ROUTES.retry, { id }));
  return "It is queued again, under its id.";
}, openFeed);

async function cancel(id) {
  if ((await asked("Cancel this job?", `${id} ends without a result. It can be retried later.`, "Cancel the job")) === null) return;
  act(async () => {
    const job = await ask(ROUTES.cancel, { id });
    take(job);
    return hasEnded(job) ? "It is canceled." : "Its worker was asked to let go.";
  }, openFeed);
}

function drawActs([id, status, isAsked]) {
  const acts = [h("code", {}, id)];
  if (["failed", "canceled", "expired"].includes(status)) acts.push(button("Retry", "Retry this job", () => retry(id)));
  if (["scheduled", "queued", "running"].includes(status) && !isAsked) acts.push(button("Cancel…", "Cancel this job", () => cancel(id)));
  return acts;
}

function drawWhy([error, explanation]) {
  if (error) return [h("h3", {}, "Why"), h("p", {}, h("strong", {}, error.title)), h("p", {}, error.detail, " ", whatToDo(error.code))];
  if (!explanation) return [];
  const { blocked_by: reasons, jobs_ahead: ahead, live_workers: live, starts_in_seconds: starts } = explanation;
  const facts = [`jobs ahead: ${count(ahead)}`, `workers: ${count(live)}`, rate(explanation.finished_per_second)];
  if (starts !== null) facts.push(`starts in about ${span(starts)}`);
  const inTheWay = reasons.length ? h("ul", {}, reasons.map((reason) => h("li", {}, reason))) : h("p", {}, "Nothing is in its way.");
  return [h("h3", {}, "What it waits for"), inTheWay, h("p", { class: "soft" }, facts.join(" · "))];
}

function drawFacts(job) {
  const { input, resolved_model: model } = job;
  const image = [input.width && `${input.width} × ${input.height} px`, input.content_type, input.bytes && bytes(input.bytes), input.image];
  const time = (at) => at && timed([new Date(at).toLocaleString(), at])[0];
  const object = (value) => (Object.keys(value).length ? JSON.stringify(value) : null);
  const facts = {
    Model: `${job.model}, ${model.digest}`,
    Image: image.filter(Boolean).join(", "),
    Warnings: input.warnings.map((code) => code.replaceAll("_", " ")).join(", "),
    Parameters: object(job.params),
    Metadata: object(job.metadata),
    Priority: String(job.priority),
    Batch: job.batch_id,
    Made: time(job.created_at),
    Due: time(job.run_at),
    Began: time(job.started_at),
    Ended: time(job.finished_at),
    Deadline: time(job.deadline),
    "Kept until": time(job.retain_until),
    "Forward pass": job.batch && `image ${job.batch.position + 1} of ${job.batch.size}`,
    Trace: job.trace_id,
  };
  const known = Object.entries(facts).filter(([, fact]) => fact);
  return [h("h3", {}, "Job"), h("dl", {}, known.map(([name, fact]) => [h("dt", {}, name), h("dd", {}, fact)]).flat())];
}

/** The known stages in order: each begins where the previous one ended. */
function drawStages(timings) {
  if (!timings) return [];
  const stages = STAGES.filter((stage) => stage in timings);
  const whole = Math.max(timings.total ?? 0, stages.reduce((sum, stage) => sum + timings[stage], 0)) || 1;
  let from = 0;
  const rows = stages.flatMap((stage) => {
    const to = from + (timings[stage] / whole) * 100;
    const style = `--from: ${from.toFixed(2)}%; --to: ${Math.max(to, from + 0.6).toFixed(2)}%`;
    from = to;
    const took = timings[stage] < 1_000 ? `${timings[stage].toFixed(1)} ms` : span(timings[stage] / 1000);
    return [h("dt", {}, stage.replace("_", " ")), h("dd", { style }, h("span", {}, took))];
  });
  return [h("h3", {}, `Time: ${span(whole / 1000)}`), h("dl", {}, rows)];
}

function drawAttempts(items) {
  if (!items?.length) return [];
  const heads = ["", "Worker", "Device", "Began", "Took", "Outcome", "Error"].map((text) => h("th", { scope: "col" }, text));
  const rows = items.map((one) => {
    const took = one.ended_at ? span(secondsBetween(one.started_at, one.ended_at)) : "–";
    const outcome = one.outcome ? one.outcome.replace("_", " ") + (one.charged ? "" : ", not charged") : "under way";
    const began = timed([clock(one.started_at), one.started_at])[0];
    const cells = [one.number, one.worker ?? "–", one.device ?? "–", began, took, outcome, one.error?.detail ?? ""];
    return h("tr", {}, cells.map((cell) => h("td", {}, cell)));
  });
  return [h("h3", {}, "Attempts"), h("table", {}, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows))];
}

/** Class of the element, the part of the open job that it shows, and how it draws that part. */
const PARTS = [
  ["acts whole", ({ job }) => job && [job.id, job.status, job.cancel_requested === true], drawActs],
  ["gone", ({ refusal }) => refusal, ([text, code]) => [text, " ", code ? whatToDo(code) : ""]],
  ["why", ({ job, explanation }) => job && [job.error, explanation], drawWhy],
  ["stages", ({ job }) => job?.timings_ms ?? null, drawStages],
  ["facts", ({ job }) => job, drawFacts],
  ["result", ({ job }) => job?.result ?? null, (result) => [h("h3", {}, "Result"), h("pre", { tabindex: 0 }, lines(result))]],
  ["attempts whole", ({ job }) => job?.attempts.items ?? null, drawAttempts],
];

function fillDetail(cell) {
  cell.colSpan = JOBS.length;
  if (!cell.firstChild) cell.append(h("div", { id: "detail" }, PARTS.map(([kind]) => h("div", { class: kind }))));
  PARTS.forEach(([, of, look], nth) => draw(cell.firstChild.children[nth], of(open), (value) => (value === null ? [] : look(value))));
}

const query = () => (view() === "all" ? { limit: PAGE_JOBS } : { limit: PAGE_JOBS, status: view() });

const jobsFeed = new Feed(async () => {
  const shown = view();
  if (isStill()) return null;
  if (!isOneJob()) return { shown, page: await ask(ROUTES.jobs, {}, query()) };
  return { shown, page: { data: [await ask(ROUTES.job, { id: shown })], next_cursor: null } };
}, (answer) => {
  if (answer?.shown === view() && !isStill()) {
    Object.assign(list, { jobs: answer.page.data, cursor: answer.page.next_cursor });
    if (isOneJob()) openJob(list.jobs[0].id);
  }
  drawJobs();
}, inPlaceOf("jobs"));

const openFeed = new Feed(async () => {
  const { id, job } = open;
  if (id === null || (job && hasEnded(job))) return null;
  const now = await ask(ROUTES.job, { id });
  return [now, hasEnded(now) ? null : await ask(ROUTES.explain, { id })];
}, (answer) => answer && take(...answer), (fault) => {
  open.refusal = fault && [fault.message, fault.code];
  if (fault) drawJobs();
});

$("more").addEventListener("click", () => act(async () => {
  list.isOlder = true;
  const shown = view();
  const page = await ask(ROUTES.jobs, {}, { ...query(), cursor: list.cursor });
  if (shown !== view()) return;
  Object.assign(list, { jobs: [...list.jobs, ...page.data], cursor: page.next_cursor });
  drawJobs();
}));

$("newest").addEventListener("click", () => {
  list.isOlder = false;
  openJob(null);
});

$("look-up").addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = $("job-id").value.trim();
});

window.addEventListener("hashchange", () => {
  Object.assign(list, { jobs: null, cursor: null, isOlder: false });
  Object.assign(open, { id: null, job: null, explanation: null, refusal: null });
  jobs.show([]);
  drawJobs();
  jobsFeed.restart();
});

const FEEDS = [workersFeed, statsFeed, jobsFeed, openFeed];
document.addEventListener("visibilitychange", () => FEEDS.forEach((feed) => feed.turn()));
drawJobs();
FEEDS.forEach((feed) => feed.turn());
