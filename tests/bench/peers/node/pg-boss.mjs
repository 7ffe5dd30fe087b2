// Driver of pg-boss (npm) for `bench queue`. QB_BATCH: jobs of one fetch; QB_CONC: concurrent fetchers.
import { PgBoss } from "pg-boss";
import { bulk, drain, pause, pickups, say, setting, singles, started, url } from "./protocol.mjs";

const [op, count] = [process.argv[2], Number(process.argv[3] ?? 0)];
const boss = new PgBoss({ connectionString: url, max: 66, supervise: false, schedule: false, useListenNotify: true });
boss.on("error", () => {}); // the bench drops the database at the end
await boss.start();

const operations = {
  async setup() {
    await boss.createQueue("noop", { notify: true });
    say({ op });
  },
  bulk: () => bulk(count, (ids) => boss.insert("noop", ids.map((id) => ({ data: { id } })))),
  drain: () =>
    drain(() => {
      const options = {
        batchSize: setting("QB_BATCH", 500), localConcurrency: setting("QB_CONC", 2), burstWhenBatchFull: true,
        pollingIntervalSeconds: 0.5, notifyPollingIntervalSeconds: 0.5,
      };
      return boss.work("noop", options, async () => {});
    }),
  async latency() {
    const options = { batchSize: 1, localConcurrency: 1, notifyPollingIntervalSeconds: 30 };
    await boss.work("noop", options, async (jobs) => jobs.forEach((job) => started(job.data.id)));
    await pause(1500);
    await pickups(count, (id) => boss.send("noop", { id }));
  },
};
for (const callers of [1, 16, 64]) {
  operations[`insert${callers}`] = () => singles(count, callers, () => boss.send("noop", { id: 0 }));
}
await operations[op]();
process.exit(0);
