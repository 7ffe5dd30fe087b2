"""Options, results, errors and folders, with a fake service."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest

from darkroom_client import (
    AsyncClient,
    Client,
    DarkroomError,
    FilePrediction,
    JobFailed,
    ModelRejected,
    Refused,
    Retries,
    StillRunning,
    Unreachable,
    batch_line,
)

Handler = Callable[[httpx.Request], httpx.Response]
NOW = Retries(patience_seconds=0)


def client(handler: Handler) -> Client:
    http = httpx.Client(transport=httpx.MockTransport(handler))
    return Client("http://darkroom", "dk_1_x", retries=NOW, http=http)


def async_client(handler: Handler) -> AsyncClient:
    http = httpx.AsyncClient(transport=httpx.MockTransport(handler))
    return AsyncClient("http://darkroom", "dk_1_x", retries=NOW, http=http)


def no_service(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"{request.method} {request.url} was sent")


def job(status: str = "succeeded", **fields: Any) -> dict[str, Any]:
    return {"id": "job_1", "status": status, **fields}


def problem(status: int, code: str, **fields: Any) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "status": status, **fields})


def test_an_unknown_option_fails_before_any_request(tmp_path: Path) -> None:
    darkroom: Any = client(no_service)
    for call in (darkroom.submit, darkroom.predict):
        with pytest.raises(TypeError, match=r"no option 'topk'.*params="):
            call(b"image", topk=5)
    with pytest.raises(TypeError, match="topk"):
        darkroom.predict_folder(tmp_path, topk=5)
    with pytest.raises(TypeError, match="state"):
        darkroom.list(state="failed")
    line: Any = batch_line
    with pytest.raises(TypeError, match="topk"):
        line("a", b"image", topk=5)

    async def asynchronous() -> None:
        darkroom: Any = async_client(no_service)
        for call in (darkroom.submit, darkroom.predict):
            with pytest.raises(TypeError, match="topk"):
                await call(b"image", topk=5)
        with pytest.raises(TypeError, match="topk"):
            darkroom.predict_folder(tmp_path, topk=5)
        with pytest.raises(TypeError, match="state"):
            darkroom.list(state="failed")

    asyncio.run(asynchronous())


def test_every_option_reaches_the_service() -> None:
    at = datetime(2026, 1, 31, tzinfo=timezone.utc)
    line = batch_line("a", b"image", run_at=at, deadline="2026-02-01T00:00:00Z", max_attempts=1, retain_for="P7D")
    assert line["run_at"] == "2026-01-31T00:00:00+00:00"
    assert (line["deadline"], line["max_attempts"], line["retain_for"]) == ("2026-02-01T00:00:00Z", 1, "P7D")

    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(202, json=job("queued"))

    darkroom = client(answer)
    darkroom.submit(b"image", run_at=at, priority=2, params={"top_k": 3})
    assert dict(sent[0].url.params) == {
        "run_at": "2026-01-31T00:00:00+00:00",
        "priority": "2",
        "top_k": "3",
    }
    darkroom.submit(b"image", params={"priority": 3})
    assert not sent[1].url.query and b'"params": {"priority": 3}' in sent[1].content


def large_result(request: httpx.Request) -> httpx.Response:
    if request.url.host == "store":
        assert "authorization" not in request.headers
        return httpx.Response(200, json={"embedding": [0.5] * 3, "dim": 3})
    if request.url.path == "/v1/jobs/job_1/result":
        return httpx.Response(303, headers={"Location": "http://store/results/1.json?signature=1"})
    return httpx.Response(200, json=job(result={"url": "/v1/jobs/job_1/result", "bytes": 99_999}))


def test_a_result_is_whole_whatever_its_size() -> None:
    whole = {"embedding": [0.5] * 3, "dim": 3}
    darkroom = client(large_result)
    assert darkroom.predict(b"image") == darkroom.result("job_1") == whole
    small = client(lambda _: httpx.Response(200, json=job(result=whole)))
    assert small.predict(b"image") == small.result("job_1") == whole

    async def asynchronous() -> None:
        darkroom = async_client(large_result)
        assert await darkroom.predict(b"image") == await darkroom.result("job_1") == whole

    asyncio.run(asynchronous())


def test_a_mask_is_read_by_job_and_by_result() -> None:
    result = {"mask_url": "/v1/jobs/job_1/result", "width": 2, "height": 1, "classes": []}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/result"):
            return httpx.Response(200, content=b"\x89PNG", headers={"content-type": "image/png"})
        return httpx.Response(200, json=job(result=result))

    darkroom = client(answer)
    assert darkroom.predict(b"image") == result
    found = darkroom.get("job_1")
    assert darkroom.mask(found) == darkroom.mask("job_1") == darkroom.mask(result) == b"\x89PNG"
    with pytest.raises(DarkroomError, match="no mask"):
        client(large_result).mask("job_1")


def test_a_job_without_a_result_is_told_with_its_job() -> None:
    error = {"title": "The image cannot be decoded", "detail": "torn", "code": "image_undecodable"}
    with pytest.raises(JobFailed) as failed:
        client(lambda _: httpx.Response(200, json=job("failed", error=error))).predict(b"image")
    assert failed.value.job is not None and failed.value.job.id == "job_1"
    assert str(failed.value) == "The image cannot be decoded: torn (image_undecodable, job_1)"
    with pytest.raises(JobFailed, match="canceled"):
        client(lambda _: httpx.Response(200, json=job("canceled"))).result("job_1")
    with pytest.raises(StillRunning):
        client(lambda _: httpx.Response(200, json=job("running"))).predict(b"image", timeout=0)


def test_an_error_as_text_has_its_useful_parts() -> None:
    errors = [
        {"pointer": "/params/topk", "code": "unknown", "detail": "the model has no such parameter"},
        {"pointer": "/params/top_k", "code": "invalid", "detail": "must lie in 1..=1000"},
    ]
    refusal = problem(
        422,
        "invalid_params",
        title="A parameter is not acceptable",
        detail="model lite does not take these parameters",
        request_id="0198",
        errors=errors,
    )
    with pytest.raises(Refused) as refused:
        client(lambda _: refusal).submit(b"image")
    assert str(refused.value).splitlines() == [
        "A parameter is not acceptable: model lite does not take these parameters (invalid_params, HTTP 422, request 0198)",
        "  /params/topk: the model has no such parameter",
        "  /params/top_k: must lie in 1..=1000",
    ]
    one = {"pointer": "/alias", "code": "needed", "detail": "is needed"}
    refusal = problem(422, "invalid_params", title="T", detail="/alias: is needed", request_id="1", errors=[one])
    with pytest.raises(Refused) as refused:
        client(lambda _: refusal).submit(b"image")
    assert str(refused.value) == "T: /alias: is needed (invalid_params, HTTP 422, request 1)"
    proxy = httpx.Response(413, text="<h1>Too large</h1>")
    with pytest.raises(Refused, match="Too large.*HTTP 413"):
        client(lambda _: proxy).submit(b"image")

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused")

    with pytest.raises(Unreachable, match="no answer to POST /v1/jobs: ConnectError: Connection refused"):
        client(refuse).submit(b"image")


class FolderService:
    """Refuses what starts with `bad`, fails what starts with `torn`, and counts the submits under way."""

    def __init__(self, waits_for: int = 1) -> None:
        self.lock, self.under_way, self.most = threading.Lock(), 0, 0
        self.barrier = threading.Barrier(waits_for)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        with self.lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        self.barrier.wait(10)
        with self.lock:
            self.under_way -= 1
        if request.url.params.get("model") == "nothing":
            return problem(404, "unknown_model")
        if request.content.startswith(b"bad"):
            return problem(415, "unsupported_media_type")
        if request.content.startswith(b"torn"):
            return httpx.Response(200, json=job("failed", error={"code": "image_undecodable"}))
        return httpx.Response(200, json=job(result={"labels": []}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "more/.hidden").mkdir(parents=True)
    for name, content in [
        ("a.jpg", b"good"),
        ("more/b.JPG", b"bad"),
        ("more/c.png", b"torn"),
        ("more/no-suffix", b"RIFF0000WEBP"),
        ("more/.hidden/x.jpg", b"good"),
        (".x.jpg", b"good"),
        ("notes.txt", b"no image"),
    ]:
        (tmp_path / name).write_bytes(content)
    return tmp_path


def check_outcomes(folder: Path, outcomes: list[FilePrediction]) -> None:
    found = {str(one.path.relative_to(folder)): one for one in outcomes}
    assert set(found) == {"a.jpg", "more/b.JPG", "more/c.png", "more/no-suffix"}
    assert found["a.jpg"].succeeded and found["a.jpg"].result == {"labels": []}
    refused, torn = found["more/b.JPG"], found["more/c.png"]
    assert isinstance(refused.error, Refused) and refused.job is None and refused.result is None
    assert isinstance(torn.error, JobFailed) and torn.job is not None and torn.job.id == "job_1"


def test_a_folder_reports_bad_files_and_goes_on(folder: Path) -> None:
    check_outcomes(folder, list(client(FolderService()).predict_folder(folder)))

    async def asynchronous() -> list[FilePrediction]:
        return [one async for one in async_client(FolderService()).predict_folder(folder)]

    check_outcomes(folder, asyncio.run(asynchronous()))


def test_a_file_that_cannot_be_read_is_reported(folder: Path) -> None:
    def remove(request: httpx.Request) -> httpx.Response:
        for path in folder.rglob("*.png"):
            path.unlink()
        return httpx.Response(200, json=job(result={}))

    outcomes = list(client(remove).predict_folder(folder, concurrency=1))
    assert [one.path.name for one in outcomes if isinstance(one.error, FileNotFoundError)] == ["c.png"]


def test_an_error_that_every_file_would_have_is_raised(folder: Path) -> None:
    with pytest.raises(Refused, match="unknown_model"):
        list(client(FolderService()).predict_folder(folder, model="nothing"))

    async def asynchronous() -> None:
        with pytest.raises(Refused, match="unknown_model"):
            async for _ in async_client(FolderService()).predict_folder(folder, model="nothing"):
                pass
        with pytest.raises(FileNotFoundError):
            async for _ in async_client(no_service).predict_folder(folder / "none"):
                pass

    asyncio.run(asynchronous())
    with pytest.raises(FileNotFoundError):
        client(no_service).predict_folder(folder / "none")
    with pytest.raises(ValueError, match="concurrency"):
        client(no_service).predict_folder(folder, concurrency=0)


def test_a_folder_has_so_many_files_under_way(folder: Path) -> None:
    # The barrier opens only when two are under way at once.
    service = FolderService(waits_for=2)
    assert len(list(client(service).predict_folder(folder, concurrency=2))) == 4
    assert service.most == 2


def test_results_of_a_batch_are_jobs_and_keep_strange_line_ends() -> None:
    lines = [
        {"custom_id": "a\u2028b", "line": 1, "job": job(result={})},
        {"custom_id": None, "line": 2, "error": {"code": "invalid_params", "detail": "no"}},
    ]
    content = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/results"):
            return httpx.Response(200, content=content)
        return httpx.Response(200, json={"status": "partly_failed"})

    found = list(client(answer).batches.results("batch_1"))
    assert found[0]["job"].succeeded and found[0]["custom_id"] == "a\u2028b"
    assert found[1]["error"]["code"] == "invalid_params"


def version(state: str) -> httpx.Response:
    one = {"name": "lite", "version": 2, "state": state, "state_cause": "no operator torchvision::nms"}
    return httpx.Response(200, json={"data": [one, {**one, "version": 1, "state": "ready"}]})


def test_a_wait_for_a_model_ends_with_the_verdict() -> None:
    states = ["validating", "ready"]
    assert client(lambda _: version(states.pop(0))).models.wait("lite", 2)["state"] == "ready"
    with pytest.raises(ModelRejected, match="lite:2 was rejected: no operator torchvision::nms"):
        client(lambda _: version("rejected")).models.wait("lite", 2)
    with pytest.raises(StillRunning, match="lite:2 is still validating"):
        client(lambda _: version("validating")).models.wait("lite", 2, timeout=0)
