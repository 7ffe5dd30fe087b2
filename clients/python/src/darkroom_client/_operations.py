"""Every operation as a generator: it yields a step (a `Call` or a `Pause`) and receives the outcome of the step.

`Client` and `AsyncClient` share these operations. Each client only executes the steps.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from json import loads
from typing import Any, NoReturn, TypeVar, Union

import httpx

from ._images import Image
from ._retries import Retries
from ._wire import Call, Job, JobOptions, batch, submission
from .errors import DarkroomError, StillRunning, Unreachable, job_failed, refused

T = TypeVar("T")

#: The longest wait that the service accepts in `Prefer: wait`.
WAIT_SECONDS_MAX = 60
#: How long the service may collect results of a batch before it answers.
RESULTS_WAIT_SECONDS = 5


@dataclass(frozen=True)
class Pause:
    seconds: float


Step = Union[Call, Pause]
Reply = Union[httpx.Response, httpx.TransportError, None]
Operation = Generator[Step, Reply, T]


def answer(call: Call, retries: Retries) -> Operation[httpx.Response]:
    """Sends the call, with retries, until the service accepts it. Raises :class:`Refused` or :class:`Unreachable`."""
    until, tries = time.monotonic() + retries.patience_seconds, 0
    while True:
        outcome = yield call
        assert outcome is not None
        if isinstance(outcome, httpx.Response) and outcome.status_code < 400:
            return outcome
        pause = retries.pause_after(outcome, tries, repeatable=call.repeatable)
        if pause is None or time.monotonic() + pause > until:
            if isinstance(outcome, httpx.Response):
                raise_refused(outcome)
            why = f"{type(outcome).__name__}: {outcome}".removesuffix(": ")
            raise Unreachable(f"no answer to {call.method} {call.path}: {why}") from outcome
        yield Pause(pause)
        tries += 1


def raise_refused(response: httpx.Response) -> NoReturn:
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"detail": response.text[:200]}
    raise refused(response.status_code, problem)


def json(call: Call, retries: Retries) -> Operation[Any]:
    response = yield from answer(call, retries)
    return response.json() if response.content else None


def job(call: Call, retries: Retries) -> Operation[Job]:
    response = yield from answer(call, retries)
    seen = Job(response.json())
    seen.etag = response.headers.get("etag")
    return seen


def submit(
    image: Image,
    options: JobOptions,
    retries: Retries,
    *,
    run: str | None,
    key: str | None,
    wait: bool | float,
    fresh: bool,
) -> Operation[Job]:
    seconds = WAIT_SECONDS_MAX if wait is True else min(int(wait), WAIT_SECONDS_MAX)
    call, digest = submission(image, options, run=run, key=key, wait=seconds, fresh=fresh)
    until = None if wait is True else time.monotonic() + wait
    accepted = yield from job(call, retries)
    arrived = (accepted.get("input") or {}).get("image")
    if digest and arrived and arrived != digest:
        raise DarkroomError(f"sent {digest}, but {arrived} arrived")
    if not wait or accepted.has_ended:
        return accepted
    return (yield from ended(accepted, retries, until))


def wait(job_id: str, retries: Retries, timeout: float | None) -> Operation[Job]:
    until = None if timeout is None else time.monotonic() + timeout
    first = yield from job(Call("GET", f"/v1/jobs/{job_id}"), retries)
    return (yield from ended(first, retries, until))


def ended(latest: Job, retries: Retries, until: float | None) -> Operation[Job]:
    """Reads the job by long polling until the job has ended. `until`: by the monotonic clock."""
    while not latest.has_ended:
        left = WAIT_SECONDS_MAX if until is None else until - time.monotonic()
        if left <= 0:
            raise StillRunning(latest)
        headers = {"Prefer": f"wait={max(1, min(int(left), WAIT_SECONDS_MAX))}"}
        if latest.etag:
            headers["If-None-Match"] = latest.etag
        call = Call("GET", f"/v1/jobs/{latest.id}", headers=headers)
        response = yield from answer(call, retries)
        if response.status_code != 304:
            latest = Job(response.json())
            latest.etag = response.headers.get("etag")
        elif "preference-applied" not in response.headers:
            yield Pause(1.0)  # this service does not support long polling
    return latest


def predict(
    image: Image,
    options: JobOptions,
    retries: Retries,
    *,
    run: str | None,
    key: str | None,
    timeout: float | None,
    fresh: bool,
) -> Operation[Job]:
    """A job that succeeded, with its whole result. Raises :class:`JobFailed`, or :class:`StillRunning` after `timeout`."""
    wait = True if timeout is None else timeout
    done = yield from submit(image, options, retries, run=run, key=key, wait=wait, fresh=fresh)
    return (yield from whole(done, retries))


def result(job_id: str, retries: Retries) -> Operation[dict[str, Any]]:
    found = yield from job(Call("GET", f"/v1/jobs/{job_id}"), retries)
    done = yield from whole(found, retries)
    value: dict[str, Any] = done.result
    return value


def whole(done: Job, retries: Retries) -> Operation[Job]:
    """The job with its whole result. The service keeps a large result outside of the job: this fetches it."""
    if not done.has_ended:
        raise StillRunning(done)
    if not done.succeeded:
        raise job_failed(done)
    path = f"/v1/jobs/{done.id}/result"
    stored = done.result
    if isinstance(stored, Mapping) and "bytes" in stored and str(stored.get("url")).endswith(path):
        done["result"] = yield from json(Call("GET", path), retries)
    return done


def mask(of: str | Mapping[str, Any], retries: Retries) -> Operation[bytes]:
    if isinstance(of, str):
        path = f"/v1/jobs/{of}/result"
    elif "mask_url" in of:
        path = str(of["mask_url"])
    else:
        path = f"/v1/jobs/{of['id']}/result"
    response = yield from answer(Call("GET", path), retries)
    if "json" in response.headers.get("content-type", ""):
        raise DarkroomError(f"{path} is no mask: the model does not segment")
    return response.content


def create_batch(
    lines: Iterable[dict[str, Any]], key: str | None, retries: Retries
) -> Operation[dict[str, Any]]:
    made: dict[str, Any] = yield from json(batch(list(lines), key), retries)
    return made


def wait_for_batch(
    batch_id: str, retries: Retries, timeout: float | None
) -> Operation[dict[str, Any]]:
    until, pause = None if timeout is None else time.monotonic() + timeout, 0.25
    while True:
        found: dict[str, Any] = yield from json(Call("GET", f"/v1/batches/{batch_id}"), retries)
        if found["status"] != "running":
            return found
        if until is not None and time.monotonic() + pause > until:
            raise StillRunning(found)
        yield Pause(pause)
        pause = min(pause * 2, 10.0)


def results(batch_id: str, after: int) -> Call:
    """Reads the results after line `after`. The service waits a few seconds for results if there are none yet."""
    wait = {"Prefer": f"wait={RESULTS_WAIT_SECONDS}"}
    return Call("GET", f"/v1/batches/{batch_id}/results", query={"after": after}, headers=wait)


def results_of(response: httpx.Response) -> list[dict[str, Any]]:
    """The lines of one page of results. A job is a :class:`Job`."""
    lines: list[dict[str, Any]] = [loads(line) for line in response.content.split(b"\n") if line]
    for line in lines:
        if line.get("job") is not None:
            line["job"] = Job(line["job"])
    return lines


def filters(**given: Any) -> dict[str, str]:
    """Filters of a list as a query: `metadata={"listing": "8841"}` is `metadata.listing=8841`."""
    query: dict[str, str] = {}
    for name, value in given.items():
        if isinstance(value, Mapping):
            query.update({f"{name}.{key}": str(text) for key, text in value.items()})
        elif value is not None:
            query[name] = value.isoformat() if isinstance(value, datetime) else str(value)
    return query
