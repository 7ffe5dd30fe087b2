from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from . import _operations as operations
from ._folder import FilePrediction, Folder, check_concurrency, each, failure, find_images
from ._images import Image
from ._models import Models
from ._operations import Operation, Pause
from ._retries import Retries
from ._wire import Call, Job, JobFields, JobOptions
from .errors import DarkroomError

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")

#: Longer than the longest wait that the service accepts. A request may wait for a connection of its own client without end:
#: the service is not away then.
_TIMEOUT = httpx.Timeout(90.0, connect=5.0, pool=None)


class Client:
    """Client of one service with one API key. Threads may share a client.

    Every call that is safe to repeat is retried while the service is away or busy (:class:`Retries`).

    :param url: address of the service; ``DARKROOM_URL`` if left out
    :param key: API key ``dk_…``; ``DARKROOM_API_KEY`` if left out
    :param run: a name for all submits of this program. With a name, two submits of one image with equal options are one
        job, also after the program was killed and started again. Without a name, each `submit` creates a job.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        run: str | None = None,
        retries: Retries | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        self.run = run
        self.retries = retries or Retries()
        self._base, self._headers = connection(url, key)
        self._http = http or httpx.Client(timeout=_TIMEOUT)
        self.batches = Batches(self)
        self.models = Models(self)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def submit(
        self,
        image: Image,
        *,
        wait: bool | float = False,
        fresh: bool = False,
        idempotency_key: str | None = None,
        **options: Unpack[JobFields],
    ) -> Job:
        """Submits an image as one job, however many tries the request needs.

        Raises `TypeError` for a value that is no image and for an option that does not exist, and :class:`Refused`.

        :param image: a path, a URL, the bytes, an open file, an image of Pillow, or a uint8 array of numpy: (height, width),
            or with 3 channels (RGB) or 4 (RGBA). Pixels are sent as PNG; EXIF does not turn them.
        :param wait: `True`: until the job has ended; a number: for so many seconds (then :class:`StillRunning`)
        :param fresh: predict again, even if the service has an equal prediction
        :param options: ``model`` (``name``, ``name@alias``, ``name:version``; the service's default if left out), ``params``,
            ``metadata``, ``priority``, ``webhook``, ``run_at``, ``deadline``, ``max_attempts``, ``retain_for``
        """
        return self._do(
            operations.submit(
                image,
                JobOptions.of(options),
                self.retries,
                run=self.run,
                key=idempotency_key,
                wait=wait,
                fresh=fresh,
            )
        )

    def get(self, job: str | Job) -> Job:
        return self._job("GET", job)

    def wait(self, job: str | Job, timeout: float | None = None) -> Job:
        """Waits until the job has ended, with any outcome. Raises :class:`StillRunning` after `timeout` seconds."""
        return self._do(operations.wait(job_id(job), self.retries, timeout))

    def result(self, job: str | Job) -> dict[str, Any]:
        """The result of the model, whatever its size. Raises :class:`JobFailed`, or :class:`StillRunning`.

        The result of a `segment` model names its mask: :meth:`mask` reads it.
        """
        return self._do(operations.result(job_id(job), self.retries))

    def mask(self, of: str | Mapping[str, Any]) -> bytes:
        """The mask of a `segment` model: a PNG of 8-bit gray. `of`: a job, its id, or its result."""
        return self._do(operations.mask(of, self.retries))

    def predict(
        self,
        image: Image,
        *,
        timeout: float | None = None,
        fresh: bool = False,
        idempotency_key: str | None = None,
        **options: Unpack[JobFields],
    ) -> dict[str, Any]:
        """Submits, waits, and returns the result, whatever its size. Takes the images and options of :meth:`submit`.

        Raises :class:`JobFailed`, and :class:`StillRunning` after `timeout` seconds; both have the `job`.
        """
        found: dict[str, Any] = self._predict(
            image, JobOptions.of(options), timeout, fresh, idempotency_key
        ).result
        return found

    def predict_folder(
        self,
        folder: Folder,
        *,
        concurrency: int = 8,
        timeout: float | None = None,
        fresh: bool = False,
        **options: Unpack[JobFields],
    ) -> Iterator[FilePrediction]:
        """Predicts every image of a folder and its subfolders. Gives a :class:`FilePrediction` for each, as the jobs end.

        A file that cannot be read, that the service refuses, or whose job fails has an `error`; the others go on. Raises an
        error that every file would have: a wrong key, an unknown model, a service that is away.

        :param concurrency: how many files are under way at once
        :param timeout: seconds for each file
        :param options: as in :meth:`submit`, for every file
        """
        checked = JobOptions.of(options)
        check_concurrency(concurrency)
        images, unreadable = find_images(folder)

        def one(path: Path) -> FilePrediction:
            try:
                return FilePrediction(path, self._predict(path, checked, timeout, fresh))
            except (DarkroomError, OSError) as error:
                return failure(path, error)

        return chain(unreadable, each(images, one, concurrency))

    def list(
        self,
        *,
        status: str | None = None,
        model: str | None = None,
        task: str | None = None,
        batch_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        created_after: str | datetime | None = None,
        created_before: str | datetime | None = None,
        include: str | None = None,
        limit: int = 100,
    ) -> Iterator[Job]:
        """Your jobs, newest first, page after page of `limit` jobs. `include`: `attempts`."""
        query = operations.filters(
            status=status,
            model=model,
            task=task,
            batch_id=batch_id,
            metadata=metadata,
            created_after=created_after,
            created_before=created_before,
            include=include,
            limit=limit,
        )
        while True:
            page = self._json("GET", "/v1/jobs", query=query)
            yield from map(Job, page["data"])
            if not page.get("next_cursor"):
                return
            query["cursor"] = page["next_cursor"]

    def cancel(self, job: str | Job) -> Job:
        return self._job("POST", job, "/cancel")

    def retry(self, job: str | Job) -> Job:
        """Runs a failed, expired or canceled job again."""
        return self._job("POST", job, "/retry", repeatable=False)

    def delete(self, job: str | Job) -> None:
        """Deletes the data of a job that has ended."""
        self._json("DELETE", f"/v1/jobs/{job_id(job)}")

    def explain(self, job: str | Job) -> dict[str, Any]:
        """Explains the state of a job."""
        found: dict[str, Any] = self._json("GET", f"/v1/jobs/{job_id(job)}/explain")
        return found

    def events(self, after: str | None = None, *, wait: int = 30) -> Iterator[dict[str, Any]]:
        """The events of your jobs, without end. To continue later, pass the ``id`` of the last event as `after`."""
        query = {} if after is None else {"after": after}
        while True:
            page = self._json("GET", "/v1/events", query=query, headers={"Prefer": f"wait={wait}"})
            yield from page["data"]
            query = {"after": page["next_cursor"]}

    def _predict(
        self,
        image: Image,
        options: JobOptions,
        timeout: float | None,
        fresh: bool,
        key: str | None = None,
    ) -> Job:
        return self._do(
            operations.predict(
                image, options, self.retries, run=self.run, key=key, timeout=timeout, fresh=fresh
            )
        )

    def _job(self, method: str, job: str | Job, verb: str = "", repeatable: bool = True) -> Job:
        call = Call(method, f"/v1/jobs/{job_id(job)}{verb}", repeatable=repeatable)
        return self._do(operations.job(call, self.retries))

    def _json(self, method: str, path: str, **more: Any) -> Any:
        return self._do(operations.json(Call(method, path, **more), self.retries))

    def _do(self, operation: Operation[T]) -> T:
        reply: httpx.Response | httpx.TransportError | None = None
        while True:
            try:
                step = operation.send(reply)
            except StopIteration as done:
                value: T = done.value
                return value
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                reply = None
            else:
                reply = self._send(step)

    def _send(self, call: Call) -> httpx.Response | httpx.TransportError:
        try:
            return self._http.send(request(self._http, self._base, self._headers, call), follow_redirects=True)
        except httpx.TransportError as error:
            return error


class Batches:
    """Many jobs in one request: `client.batches`. :func:`darkroom_client.batch_line` makes a line."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def create(self, lines: Iterable[dict[str, Any]], *, idempotency_key: str | None = None) -> dict[str, Any]:
        """Submits the lines. The response reports each refused line; the other lines become jobs."""
        return self._client._do(operations.create_batch(lines, idempotency_key, self._client.retries))

    def get(self, batch: str) -> dict[str, Any]:
        found: dict[str, Any] = self._client._json("GET", f"/v1/batches/{batch}")
        return found

    def wait(self, batch: str, timeout: float | None = None) -> dict[str, Any]:
        """Waits until all jobs of the batch have ended. Raises :class:`StillRunning` after `timeout` seconds."""
        return self._client._do(operations.wait_for_batch(batch, self._client.retries, timeout))

    def results(self, batch: str) -> Iterator[dict[str, Any]]:
        """Results in line order, also while the batch runs: `custom_id`, `line`, and the `job` or the `error`.

        An `error` is a problem with `code` and `detail`: the line was refused, or the data of its job is gone.
        """
        after, is_over = 0, False
        while not is_over:
            is_over = self.get(batch)["status"] != "running"
            call = operations.results(batch, after)
            page = self._client._do(operations.answer(call, self._client.retries))
            for result in operations.results_of(page):
                after = result["line"]
                yield result

    def cancel(self, batch: str) -> dict[str, Any]:
        found: dict[str, Any] = self._client._json("POST", f"/v1/batches/{batch}/cancel")
        return found

    def retry_failed(self, batch: str) -> dict[str, Any]:
        found: dict[str, Any] = self._client._json(
            "POST", f"/v1/batches/{batch}/retry_failed", repeatable=False
        )
        return found


def connection(url: str | None, key: str | None) -> tuple[str, dict[str, str]]:
    base = url or os.environ.get("DARKROOM_URL") or "http://127.0.0.1:8080"
    key = key or os.environ.get("DARKROOM_API_KEY")
    headers = {"User-Agent": "darkroom-client/0.1.0"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    return base.rstrip("/"), headers


def request(
    http: httpx.Client | httpx.AsyncClient, base: str, headers: dict[str, str], call: Call
) -> httpx.Request:
    return http.build_request(
        call.method,
        base + call.path,
        params=call.query or None,
        headers={**headers, **call.headers},
        content=call.content,
        json=call.json,
        timeout=httpx.USE_CLIENT_DEFAULT if call.timeout_seconds is None else call.timeout_seconds,
    )


def job_id(job: str | Job) -> str:
    return job if isinstance(job, str) else job.id
