// Submits a photo, waits until its job has ended, and prints what the model said.
//
//   npm ci && npm run generate && npm run build && npm run predict -- cat.jpg
//
// The types in openapi.d.ts are generated from the service's own /openapi.json: a field that does not exist does not compile.

import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";

import createClient from "openapi-fetch";

import type { components, paths } from "./openapi.js";

type Job = components["schemas"]["JobBody"];
type Problem = components["schemas"]["Problem"];

const darkroom = createClient<paths>({
  baseUrl: process.env["DARKROOM_URL"] ?? "http://127.0.0.1:8080",
  headers: { Authorization: `Bearer ${process.env["DARKROOM_API_KEY"] ?? ""}` },
});

/** One key for all tries at this image: whatever happens to the answers, it is one job. */
async function submit(image: Uint8Array): Promise<Job> {
  const key = randomUUID();
  for (let tries = 0; ; tries += 1) {
    const { data, error, response } = await darkroom.POST("/v1/jobs", {
      params: { query: { top_k: 3 }, header: { "Idempotency-Key": key } },
      headers: { "Content-Type": "application/octet-stream" },
      // OpenAPI says "string of format binary" of bytes, and means bytes.
      body: image as unknown as string,
      bodySerializer: (body) => body as unknown as BodyInit,
    });
    if (data) return data;
    const busy = response.status === 429 || response.status === 503;
    if (!busy || tries === 5) throw refused(error);
    await pause(response, tries);
  }
}

/** The service holds each question back until there is news, so that nobody polls. */
async function ended(job: Job): Promise<Job> {
  while (!["succeeded", "failed", "canceled", "expired"].includes(job.status)) {
    const { data, error, response } = await darkroom.GET("/v1/jobs/{id}", {
      params: {
        path: { id: job.id },
        header: { Prefer: "wait=30", "If-None-Match": `"${job.version}"` },
      },
    });
    if (response.status === 304) continue;
    if (!data) throw refused(error);
    job = data;
  }
  return job;
}

/** At least as long as the service asks for, and not the same for many clients. */
async function pause(response: Response, tries: number): Promise<void> {
  const asked = Number(response.headers.get("Retry-After") ?? 0) * 1000;
  const own = 200 * 2 ** tries * (0.5 + Math.random() / 2);
  await new Promise((resolve) => setTimeout(resolve, asked + own));
}

function refused(problem: Problem | undefined): Error {
  return new Error(problem ? `${problem.title} (${problem.code}): ${problem.detail}` : "no answer");
}

const [path] = process.argv.slice(2);
if (!path) throw new Error("say which photo: npm run predict -- cat.jpg");
const job = await ended(await submit(await readFile(path)));
if (job.status !== "succeeded") throw new Error(`${job.id} ${job.status}: ${job.error?.detail}`);
console.log(JSON.stringify({ id: job.id, result: job.result }));
