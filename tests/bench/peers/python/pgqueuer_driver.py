"""Driver of PgQueuer (PyPI) for `bench queue` (tests/bench/queue/systems.rs). QB_BATCH: jobs of one dequeue; QB_CONC: consumers."""

import asyncio
import json
import logging
import os
import sys
import time

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

URL = os.environ["QB_DSN"]


async def driver() -> AsyncpgDriver:
    return AsyncpgDriver(await asyncpg.connect(URL))


def say(**figures):
    print(json.dumps(figures), flush=True)


async def line() -> None:
    await asyncio.to_thread(sys.stdin.readline)


async def setup(_count: int) -> None:
    await Queries(await driver()).install()
    say(op="setup")


async def singles(count: int, callers: int) -> None:
    queues = [Queries(await driver()) for _ in range(callers)]

    async def submit(queue: Queries, jobs: int) -> None:
        for _ in range(jobs):
            await queue.enqueue("noop", b"0")

    each = count // callers
    await asyncio.gather(*(submit(queue, 2) for queue in queues))
    began = time.perf_counter()
    await asyncio.gather(*(submit(queue, each) for queue in queues))
    say(rate=each * callers / (time.perf_counter() - began))


async def bulk(count: int) -> None:
    queue = Queries(await driver())
    began = time.perf_counter()
    for first in range(0, count, 1000):
        size = min(1000, count - first)
        await queue.enqueue(["noop"] * size, [b"0"] * size, [0] * size)
    say(rate=count / (time.perf_counter() - began))


async def drain(_count: int) -> None:
    consumers = []
    for _ in range(int(os.environ.get("QB_CONC", 5))):
        consumer = PgQueuer(await driver())

        @consumer.entrypoint("noop")
        async def noop(_job) -> None:
            pass

        consumers.append(consumer)
    print("READY", flush=True)
    await line()
    batch = int(os.environ.get("QB_BATCH", 100))
    work = [asyncio.create_task(consumer.run(batch_size=batch)) for consumer in consumers]
    await line()
    assert not any(task.done() for task in work)


async def latency(count: int) -> None:
    waiting: dict[int, asyncio.Future] = {}
    consumer = PgQueuer(await driver())

    @consumer.entrypoint("noop")
    async def noop(job) -> None:
        waiting[int(job.payload)].set_result(time.perf_counter())

    work = asyncio.create_task(consumer.run(batch_size=10))
    queue = Queries(await driver())
    await asyncio.sleep(1.5)
    took_ms = []
    for job in range(count + 50):
        await asyncio.sleep(0.01)
        waiting[job] = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        await queue.enqueue("noop", str(job).encode())
        took_ms.append((await waiting[job] - began) * 1e3)
        del waiting[job]
    took_ms = sorted(took_ms[50:])
    assert not work.done()
    say(n=len(took_ms), **{f"p{part}": took_ms[(len(took_ms) - 1) * part // 100] for part in (50, 90, 99)})


async def main(op: str, count: int) -> None:
    if op.startswith("insert"):
        await singles(count, int(op.removeprefix("insert")))
    else:
        await {"setup": setup, "bulk": bulk, "drain": drain, "latency": latency}[op](count)
    os._exit(0)  # does not wait for the consumers


logging.disable(logging.WARNING)
uvloop.run(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0))
