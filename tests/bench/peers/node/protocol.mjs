// The protocol of `bench queue` for drivers in JavaScript (tests/bench/queue/systems.rs).
import { createInterface } from "node:readline";

export const url = process.env.QB_DSN;
export const setting = (name, otherwise) => Number(process.env[name] ?? otherwise);
export const pause = (ms) => new Promise((resume) => setTimeout(resume, ms));
export const say = (figures) => console.log(JSON.stringify(figures));

const milliseconds = () => performance.now();

/** Submits jobs by concurrent callers. Each caller waits for the commit of its job. */
export async function singles(count, callers, submit) {
  const each = Math.floor(count / callers);
  const all = (jobs) => Promise.all(Array.from({ length: callers }, async () => {
    for (let job = 0; job < jobs; job++) await submit();
  }));
  await all(2); // warm-up: opens connections and prepares statements
  const began = milliseconds();
  await all(each);
  say({ rate: (each * callers * 1000) / (milliseconds() - began) });
}

/** Submits jobs in batches of a thousand. */
export async function bulk(count, submitMany) {
  const began = milliseconds();
  for (let first = 0; first < count; first += 1000) {
    const size = Math.min(1000, count - first);
    await submitMany(Array.from({ length: size }, (_, index) => first + index));
  }
  say({ rate: (count * 1000) / (milliseconds() - began) });
}

/** Prints READY, waits for a line, starts the work, and waits for another line. */
export async function drain(work) {
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  console.log("READY");
  await lines.next();
  await work();
  await lines.next();
}

/** Measures the time from `submit(id)` to `started(id)`, one job after the other. */
export async function pickups(count, submit) {
  const took = [];
  for (let id = -50; id < count; id++) {
    await pause(10);
    const start = new Promise((resolve) => waiting.set(id, resolve));
    const began = milliseconds();
    await submit(id);
    const at = await start;
    if (id >= 0) took.push(at - began);
  }
  took.sort((a, b) => a - b);
  const part = (p) => took[Math.floor((took.length - 1) * p)];
  say({ n: took.length, p50: part(0.5), p90: part(0.9), p99: part(0.99) });
}

const waiting = new Map();

/** A handler calls this when it starts. */
export function started(id) {
  waiting.get(id)?.(milliseconds());
  waiting.delete(id);
}
