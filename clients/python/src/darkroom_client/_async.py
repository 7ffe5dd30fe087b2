"""The async client. `Client` in `_sync.py` documents the calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from . import _operations as operations
from ._folder import FilePrediction, Folder, check_concurrency, each_async, failure, find_images
from ._images import Image, load
from ._models import AsyncModels
from ._operations import Operation, Pause
from ._retries import Retries
from ._sync import _TIMEOUT, connection, job_id, request
from ._wire import Call, Job, JobFields, JobOptions
from .errors import DarkroomError

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")


class AsyncClient:
    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        run: str | None = None,
        retries: Retries | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self.run = run
        self.retries = retries or Retries()
        self._base, self._headers = connection(url, key)
        self._http = http or httpx.AsyncClient(timeout=_TIMEOUT)
        self.batches = AsyncBatches(self)
        self.models = AsyncModels(self)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def submit(
        self,
        image: Image,
        *,
        wait: bool | float = False,
        fresh: bool = False,
        idempotency_key: str | None = None,
        **options: Unpack[JobFields],
    ) -> Job:
        checked = JobOptions.of(options)
        loaded = await asyncio.to_thread(load, image)
        return await self._do(
            operations.submit(
                loaded,
                checked,
                self.retries,
                run=self.run,
                key=idempotency_key,
                wait=wait,
                fresh=fresh,
            )
        )

    async def get(self, job: str | Job) -> Job:
        return await self._job("GET", job)

    async def wait(self, job: str | Job, timeout: float | None = None) -> Job:
        return await self._do(operations.wait(job_id(job), self.retries, timeout))

    async def result(self, job: str | Job) -> dict[str, Any]:
        return await self._do(operations.result(job_id(job), self.retries))

    async def mask(self, of: str | Mapping[str, Any]) -> bytes:
        return await self._do(operations.mask(of, self.retries))

    async def predict(
        self,
        image: Image,
        *,
        timeout: float | None = None,
        fresh: bool = False,
        idempotency_key: str | None = None,
        **options: Unpack[JobFields],
    ) -> dict[str, Any]:
        checked = JobOptions.of(options)
        done = await self._predict(image, checked, timeout, fresh, idempotency_key)
        found: dict[str, Any] = done.result
        return found

    def predict_folder(
        self,
        folder: Folder,
        *,
        concurrency: int = 8,
        timeout: float | None = None,
        fresh: bool = False,
        **options: Unpack[JobFields],
    ) -> AsyncIterator[FilePrediction]:
        checked = JobOptions.of(options)
        check_concurrency(concurrency)

        async def one(path: Path) -> FilePrediction:
            try:
                return FilePrediction(path, await self._predict(path, checked, timeout, fresh))
            except (DarkroomError, OSError) as error:
                return failure(path, error)

        async def files() -> AsyncIterator[FilePrediction]:
            images, unreadable = await asyncio.to_thread(find_images, folder)
            for folder_with_error in unreadable:
                yield folder_with_error
            async with aclosing(each_async(images, one, concurrency)) as predictions:
                async for file in predictions:
                    yield file

        return files()

    async def list(
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
    ) -> AsyncIterator[Job]:
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
            page = await self._json("GET", "/v1/jobs", query=query)
            for job in page["data"]:
                yield Job(job)
            if not page.get("next_cursor"):
                return
            query["cursor"] = page["next_cursor"]

    async def cancel(self, job: str | Job) -> Job:
        return await self._job("POST", job, "/cancel")

    async def retry(self, job: str | Job) -> Job:
        return await self._job("POST", job, "/retry", repeatable=False)

    async def delete(self, job: str | Job) -> None:
        await self._json("DELETE", f"/v1/jobs/{job_id(job)}")

    async def explain(self, job: str | Job) -> dict[str, Any]:
        found: dict[str, Any] = await self._json("GET", f"/v1/jobs/{job_id(job)}/explain")
        return found

    async def events(
        self, after: str | None = None, *, wait: int = 30
    ) -> AsyncIterator[dict[str, Any]]:
        query = {} if after is None else {"after": after}
        while True:
            held = {"Prefer": f"wait={wait}"}
            page = await self._json("GET", "/v1/events", query=query, headers=held)
            for event in page["data"]:
                yield event
            query = {"after": page["next_cursor"]}

    async def _predict(
        self,
        image: Image,
        options: JobOptions,
        timeout: float | None,
        fresh: bool,
        key: str | None = None,
    ) -> Job:
        loaded = await asyncio.to_thread(load, image)
        return await self._do(
            operations.predict(
                loaded, options, self.retries, run=self.run, key=key, timeout=timeout, fresh=fresh
            )
        )

    async def _job(self, method: str, job: str | Job, verb: str = "", repeatable: bool = True) -> Job:
        call = Call(method, f"/v1/jobs/{job_id(job)}{verb}", repeatable=repeatable)
        return await self._do(operations.job(call, self.retries))

    async def _json(self, method: str, path: str, **more: Any) -> Any:
        return await self._do(operations.json(Call(method, path, **more), self.retries))

    async def _do(self, operation: Operation[T]) -> T:
        reply: httpx.Response | httpx.TransportError | None = None
        while True:
            try:
                step = operation.send(reply)
            except StopIteration as done:
                value: T = done.value
                return value
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                reply = None
            else:
                reply = await self._send(step)

    async def _send(self, call: Call) -> httpx.Response | httpx.TransportError:
        sent = request(self._http, self._base, self._headers, call)
        try:
            return await self._http.send(sent, follow_redirects=True)
        except httpx.TransportError as error:
            return error


class AsyncBatches:
    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def create(
        self, lines: Iterable[dict[str, Any]], *, idempotency_key: str | None = None
    ) -> dict[str, Any]:
        client = self._client
        return await client._do(operations.create_batch(lines, idempotency_key, client.retries))

    async def get(self, batch: str) -> dict[str, Any]:
        found: dict[str, Any] = await self._client._json("GET", f"/v1/batches/{batch}")
        return found

    async def wait(self, batch: str, timeout: float | None = None) -> dict[str, Any]:
        client = self._client
        return await client._do(operations.wait_for_batch(batch, client.retries, timeout))

    async def results(self, batch: str) -> AsyncIterator[dict[str, Any]]:
        after, is_over = 0, False
        while not is_over:
            is_over = (await self.get(batch))["status"] != "running"
            call = operations.results(batch, after)
            answered = await self._client._do(operations.answer(call, self._client.retries))
            for result in operations.results_of(answered):
                after = result["line"]
                yield result

    async def cancel(self, batch: str) -> dict[str, Any]:
        found: dict[str, Any] = await self._client._json("POST", f"/v1/batches/{batch}/cancel")
        return found

    async def retry_failed(self, batch: str) -> dict[str, Any]:
        path = f"/v1/batches/{batch}/retry_failed"
        found: dict[str, Any] = await self._client._json("POST", path, repeatable=False)
        return found
