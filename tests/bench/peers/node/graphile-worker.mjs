// Driver of graphile-worker (npm) for `bench queue`. QB_BATCH: jobs of one fetch; QB_CONC: concurrent handlers.
import { Logger, makeWorkerUtils, run, runMigrations } from "graphile-worker";
import pg from "pg";
import { bulk, drain, pause, pickups, say, setting, singles, started, url } from "./protocol.mjs";

const [op, count] = [process.argv[2], Number(process.argv[3] ?? 0)];
const logger = new Logger(() => () => {});
const concurrency = setting("QB_CONC", 24);
const pgPool = new pg.Pool({ connectionString: url, max: Math.max(concurrency, 64) + 2 });
pgPool.on("error", () => {}); // the bench drops the database at the end
const utils = () => makeWorkerUtils({ pgPool, logger });

const work = (concurrentJobs, extra, noop) =>
  run({
    pgPool, logger, concurrency: concurrentJobs, noHandleSignals: true, taskList: { noop },
    preset: { worker: { concurrentJobs, completeJobBatchDelay: 0, failJobBatchDelay: 0, ...extra } },
  });

const operations = {
  async setup() {
    await runMigrations({ connectionString: url, logger });
    say({ op });
  },
  async bulk() {
    // add_jobs takes an array of records. As JSON the array is one parameter.
    const statement = `select count(*) from graphile_worker.add_jobs(
      array(select json_populate_recordset(null::graphile_worker.job_spec, $1)))`;
    await bulk(count, (ids) => {
      const specs = ids.map((id) => ({ identifier: "noop", payload: { id } }));
      return pgPool.query({ name: "bulk", text: statement, values: [JSON.stringify(specs)] });
    });
  },
  async drain() {
    const size = setting("QB_BATCH", 500);
    await drain(() => work(concurrency, { localQueue: { size, refetchDelay: { durationMs: 10 } } }, () => {}));
  },
  async latency() {
    await work(4, {}, ({ id }) => started(id));
    const submitter = await utils();
    await pause(1500);
    await pickups(count, (id) => submitter.addJob("noop", { id }));
  },
};
for (const callers of [1, 16, 64]) {
  operations[`insert${callers}`] = async () => {
    const submitter = await utils();
    await singles(count, callers, () => submitter.addJob("noop", { id: 0 }));
  };
}
await operations[op]();
process.exit(0);
