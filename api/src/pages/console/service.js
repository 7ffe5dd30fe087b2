
// The service in numbers, its models, its workers.

const CURVE_MS = 10 * 60_000;

/** How each number is formatted, and the text below it. */
const TILES = {
  queued: [count, (now) => (now.oldest === null ? "nothing waits" : `the oldest for ${span(now.oldest)}`)],
  running: [count, () => "in the hands of workers"],
  scheduled: [count, () => "due later, or backing off"],
  arriving: [rate, () => "over five minutes"],
  finishing: [rate, () => "by the last seconds or minutes"],
  workers: [count, (now) => (now.draining ? `alive, and ${count(now.draining)} draining` : "alive")],
};

/** The history of each number since the page was opened. It is stored nowhere else. */
const samples = [];
let workersNow = { workers: null, draining: 0 };

/** The last minutes of one number, since the page was opened. */
function drawCurve(svg, name, write) {
  const until = Date.now();
  const from = Math.min(samples[0].at, until - 60_000);
  const known = samples.filter((sample) => sample[name] !== null);
  const values = known.map((sample) => sample[name]);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const across = (sample) => (((sample.at - from) / (until - from)) * 100).toFixed(2);
  const up = (sample) => (23 - (sample[name] / (most || 1)) * 21).toFixed(2);
  const line = known.map((sample) => `${across(sample)},${up(sample)}`).join(" ");
  svg.querySelector("polyline").setAttribute("points", line);
  const area = known.length ? `${across(known[0])},24 ${line} ${across(known.at(-1))},24` : "";
  svg.querySelector("polygon").setAttribute("points", area);
  const bounds = known.length ? `${write(least)} to ${write(most)}` : "not known yet";
  svg.setAttribute("aria-label", `${name} in the last ${span(Math.round((until - samples[0].at) / 1000))}: ${bounds}`);
}

function showStats(stats) {
  const { queued, running, scheduled, oldest_age_seconds: oldest } = stats;
  const { arrived_per_second: arriving, finished_per_second: finishing } = stats;
  const now = { at: Date.now(), queued, running, scheduled, oldest, arriving, finishing, ...workersNow };
  samples.push(now);
  while (samples[0].at < now.at - CURVE_MS) samples.shift();
  for (const [name, [write, note]] of Object.entries(TILES)) {
    const tile = $(`tile-${name}`);
    draw(tile.querySelector("b"), now[name] === null ? null : write(now[name]));
    draw(tile.querySelector("small"), note(now));
    drawCurve(tile.querySelector("svg"), name, write);
  }
  const isStranded = queued > 0 && now.workers === 0;
  for (const name of ["queued", "workers"]) $(`tile-${name}`).classList.toggle("trouble", isStranded);
  const most = Math.max(1, ...stats.models.map((model) => model.queued));
  models.show(stats.models.map((model) => ({ ...model, percent: Math.round((model.queued / most) * 100) })));
  $("models").querySelector(".empty").hidden = stats.models.length > 0;
  $("models").querySelector(".scroll").hidden = stats.models.length === 0;
}

function stateOf(model) {
  if (model.paused) return ["paused", model.pause_reason ?? null];
  if (model.queued > 0 && model.live_workers === 0) return ["stranded", "no worker takes its jobs"];
  if (model.desired_workers > model.live_workers) return ["behind", "more workers are wanted"];
  return [model.queued + model.running > 0 ? "working" : "idle", null];
}

const stateAndWhy = ([word, why]) => [state(word), ...(why ? [h("small", {}, why)] : [])];

async function pause(model) {
  const text = "Workers claim none of its jobs until you resume it. Submits go on, and what runs ends.";
  const why = await asked(`Pause ${model}?`, text, "Pause", true);
  if (why === null) return;
  act(async () => {
    await ask(ROUTES.pause, { model }, why ? { why } : {});
    return `${model} is paused.`;
  }, statsFeed);
}

const resume = (model) => act(async () => {
  await ask(ROUTES.resume, { model });
  return `${model} goes on.`;
}, statsFeed);

const models = new Table("models", [
  ["Model", "short", (cell, model) => draw(cell, model.model)],
  ["State", "", (cell, model) => draw(cell, stateOf(model), stateAndWhy)],
  ["Queued", "number", (cell, model) => draw(cell, [count(model.queued), model.percent],
    ([text, percent]) => [h("span", { class: "part", style: `--part: ${percent}%` }, text)])],
  ["Oldest", "number", (cell, { oldest_age_seconds: oldest }) => draw(cell, oldest === null ? null : span(oldest))],
  ["Running", "number", (cell, model) => draw(cell, count(model.running))],
  ["Scheduled", "number", (cell, model) => draw(cell, count(model.scheduled))],
  ["Arriving", "number", (cell, model) => draw(cell, rate(model.arrived_per_second))],
  ["Finishing", "number", (cell, model) => draw(cell, rate(model.finished_per_second))],
  ["By one worker", "number", (cell, { finished_per_worker_second: one }) => draw(cell, one === null ? null : rate(one))],
  ["Workers", "number", (cell, model) => draw(cell, count(model.live_workers))],
  ["Wanted", "number", (cell, model) => draw(cell, count(model.desired_workers))],
  [unseen("Action"), "act", (cell, { model, paused }) => draw(cell, [model, paused], () =>
    [paused ? button("Resume", `Resume ${model}`, () => resume(model)) : button("Pause…", `Pause ${model}`, () => pause(model))])],
], (model) => model.model);

const statsFeed = new Feed(() => ask(ROUTES.stats), showStats, inPlaceOf("models"));

function showWorkers({ data }) {
  const those = (status) => data.filter((worker) => worker.status === status);
  const [alive, draining] = [those("alive"), those("draining")];
  workersNow = { workers: alive.length, draining: draining.length };
  workers.show([...alive, ...draining, ...those("lost"), ...those("ended")]);
  $("workers").querySelector(".empty").hidden = alive.length + draining.length > 0;
  $("workers").querySelector(".scroll").hidden = data.length === 0;
}

/** Heartbeats renew the lease: the less of it is left, the longer the worker has been silent. */
function leaseOf({ status, lease_until: until }) {
  if (status === "ended") return ["given back", until];
  return [secondsSince(until) < 0 ? `${age(until)} left` : `ran out ${age(until)} ago`, until];
}

async function drain(id, name) {
  const text = "It claims nothing more, ends what is on its device, gives back the rest, and leaves. No job is lost.";
  if ((await asked(`Drain ${name}?`, text, "Drain")) === null) return;
  act(async () => {
    await ask(ROUTES.drain, { id });
    return `${name} was asked to leave.`;
  }, workersFeed);
}

const workers = new Table("workers", [
  ["Worker", "short", (cell, { name, worker_id: id }) => draw(cell, [name, id], () => [name, h("small", {}, `number ${id}`)])],
  ["State", "short", (cell, worker) => draw(cell, worker.status, (status) => [state(status)])],
  ["Running", "number", (cell, worker) => draw(cell, count(worker.running))],
  ["Lease", "number", (cell, worker) => draw(cell, leaseOf(worker), timed)],
  ["Device", "", (cell, worker) => draw(cell, worker.device)],
  ["Has loaded, images at once", "", (cell, worker) => draw(cell, worker.loaded, (loaded) =>
    loaded.length ? loaded.map((one) => h("div", {}, `${one.model} ${one.precision}, ${one.batch_best}${one.artifact ? `, ${one.artifact}` : ""}`,
      one.warning ? h("small", {}, one.warning) : null)) : ["–"])],
  ["Runs", "", (cell, worker) => draw(cell, worker.models.join(", ") || "any model")],
  ["Since", "number", (cell, { registered_at: at }) => draw(cell, [age(at), at], timed)],
  ["Build", "", (cell, worker) => draw(cell, worker.build)],
  [unseen("Action"), "act", (cell, { worker_id: id, name, status }) => draw(cell, [id, name, status], () =>
    status === "alive" ? [button("Drain…", `Drain ${name}`, () => drain(id, name))] : [])],
], (worker) => worker.worker_id);

const workersFeed = new Feed(() => ask(ROUTES.workers), showWorkers, inPlaceOf("workers"));
