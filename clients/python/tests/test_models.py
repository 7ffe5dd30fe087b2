"""Most of these tests use a fake service with a fake store. The last two use the real ones."""

from __future__ import annotations

import asyncio
import json
import shutil
import uuid
from pathlib import Path

import httpx
import pytest

from darkroom_client import AsyncClient, Client, DarkroomError, NotFound, Refused, Retries, Unreachable

MODEL = Path(__file__).parents[3] / "models/efficientnet-lite0-embed"
RETRIES = Retries(patience_seconds=5, pause_seconds=0.001)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    manifest = {"name": "lite", "task": "classify", "artifact": "model.pt", "labels": "labels.txt"}
    # An editor wrote a byte order mark.
    (tmp_path / "model.json").write_text(json.dumps(manifest), "utf-8-sig")
    (tmp_path / "model.pt").write_bytes(b"weights" * 300_000)
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    return tmp_path


class Store:
    """A service and its store: signs uploads for the files that it lacks."""

    def __init__(self, *failures: httpx.Response | httpx.TransportError) -> None:
        self.failures = list(failures)
        self.stored: dict[str, bytes] = {}
        self.pushes: list[dict[str, object]] = []
        self.uploads: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        return self.put(request) if request.method == "PUT" else self.push(request)

    def push(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/models/lite/versions"
        body = json.loads(request.content)
        self.pushes.append(body)
        missing = [name for name in body["files"] if name not in self.stored]
        uploads = [
            {
                "file": name,
                "method": "PUT",
                "url": f"http://store/{name}?signature=1",
                "headers": {"content-length": str(body["files"][name]["bytes"])},
                "expires_at": "2026-01-31T12:15:00.000000Z",
            }
            for name in missing
        ]
        version = None if missing else 1
        return httpx.Response(202 if missing else 201, json={"version": version, "uploads": uploads})

    def put(self, request: httpx.Request) -> httpx.Response:
        content = request.read()
        self.uploads.append(request)
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, httpx.TransportError):
                raise failure
            return failure
        assert request.headers["content-length"] == str(len(content))
        self.stored[request.url.path.strip("/")] = content
        return httpx.Response(200)

    def client(self, retries: Retries = RETRIES) -> Client:
        http = httpx.Client(transport=httpx.MockTransport(self))
        return Client("http://darkroom", "dk_1_x", retries=retries, http=http)


def test_a_push_sends_the_files_that_are_missing_and_then_repeats_itself(folder: Path) -> None:
    store = Store()
    assert store.client().models.push(folder, alias="stable")["version"] == 1
    assert store.stored == {name: (folder / name).read_bytes() for name in ("model.pt", "labels.txt")}
    assert len(store.pushes) == 2 and store.pushes[0] == store.pushes[1]
    assert store.pushes[0]["alias"] == "stable" and store.pushes[0]["trial"] is True
    store.client().models.push(folder, trial=False)
    assert len(store.uploads) == 2, "the second push sends nothing"
    assert store.pushes[2]["trial"] is False and "alias" not in store.pushes[2]


def test_the_store_does_not_see_the_api_key(folder: Path) -> None:
    store = Store()
    store.client().models.push(folder)
    assert store.uploads and not any("authorization" in upload.headers for upload in store.uploads)


def test_an_upload_is_repeated_while_the_store_is_away(folder: Path) -> None:
    store = Store(httpx.Response(503), httpx.WriteError("lost"), httpx.ConnectError("refused"))
    assert store.client().models.push(folder)["version"] == 1
    assert len(store.uploads) == 5 and len(store.pushes) == 2
    store = Store(*(httpx.Response(500) for _ in range(2)))
    with pytest.raises(Unreachable, match="model.pt|labels.txt"):
        store.client(Retries(patience_seconds=0)).models.push(folder)


def test_an_expired_url_is_replaced_but_not_for_ever(folder: Path) -> None:
    store = Store(httpx.Response(403, text="Request has expired"))
    assert store.client().models.push(folder)["version"] == 1
    assert len(store.pushes) == 3
    store = Store(*(httpx.Response(400, text="BadDigest") for _ in range(99)))
    with pytest.raises(DarkroomError, match="BadDigest"):
        store.client().models.push(folder)


def test_the_async_client_pushes_too(folder: Path) -> None:
    store = Store(httpx.Response(503))

    async def answer(request: httpx.Request) -> httpx.Response:
        await request.aread()
        return store(request)

    async def push() -> object:
        http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
        async with AsyncClient("http://darkroom", "dk_1_x", retries=RETRIES, http=http) as client:
            return (await client.models.push(folder))["version"]

    assert asyncio.run(push()) == 1
    assert store.stored["model.pt"] == (folder / "model.pt").read_bytes()


def test_a_folder_without_a_manifest_is_refused_before_any_request(tmp_path: Path) -> None:
    store = Store()
    with pytest.raises(FileNotFoundError):
        store.client().models.push(tmp_path)
    (tmp_path / "model.json").write_text("[]")
    with pytest.raises(ValueError, match="no `name`"):
        store.client().models.push(tmp_path)
    assert not store.pushes


def test_a_model_is_pushed_rolled_out_and_retired(darkroom: Client, tmp_path: Path) -> None:
    name = f"embed-{uuid.uuid4().hex[:12]}"
    manifest = json.loads((MODEL / "model.json").read_text())
    shutil.copy(MODEL / "model.pt", tmp_path / "model.pt")

    def push(source: str) -> dict[str, object]:
        (tmp_path / "model.json").write_text(json.dumps({**manifest, "name": name, "source": source}))
        return darkroom.models.push(tmp_path, trial=False)

    first, again, second = push("one"), push("one"), push("two")
    assert (first["new"], first["aliases"]) == (True, {"default": 1})
    assert (again["new"], again["version"], again["digest"]) == (False, 1, first["digest"])
    assert (second["version"], second["moved"]) == (2, [])
    assert name in [model["name"] for model in darkroom.models.list()]
    assert darkroom.models.get(name)["default_version"] == 1

    assert darkroom.models.set_alias(name, "default", 2)["previous_version"] == 1
    darkroom.models.retire(name, 1)
    versions = darkroom.models.versions(name)
    assert [(one["version"], one["retired"]) for one in versions] == [(2, False), (1, True)]
    darkroom.models.unretire(name, 1)
    assert not darkroom.models.versions(name)[1]["retired"]
    darkroom.models.set_alias(name, "old", 1)
    darkroom.models.delete_alias(name, "old")
    with pytest.raises(NotFound):
        darkroom.models.delete_alias(name, "old")


def test_a_refused_manifest_names_every_mistake(darkroom: Client, tmp_path: Path) -> None:
    manifest = json.loads((MODEL / "model.json").read_text())
    manifest["input"]["std"] = [1, 0, 1]
    manifest["batch_max"] = 0
    (tmp_path / "model.json").write_text(json.dumps(manifest))
    (tmp_path / "model.pt").write_bytes(b"weights")
    with pytest.raises(Refused) as refused:
        darkroom.models.push(tmp_path)
    pointers = {error["pointer"] for error in refused.value.errors}
    assert pointers == {"/manifest/input/std", "/manifest/batch_max"}
