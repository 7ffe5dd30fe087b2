"""Models: `client.models`. Acts on models need a key with the scope `admin`, reading needs `read`."""

from __future__ import annotations

import asyncio
import builtins
import hashlib
import json
import random
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from . import _operations as operations
from ._folder import Folder
from ._operations import Operation, Pause
from ._retries import Retries
from ._wire import Call
from .errors import DarkroomError, ModelRejected, StillRunning, Unreachable

if TYPE_CHECKING:
    from ._async import AsyncClient
    from ._sync import Client

#: How often the service is asked which files it lacks. More than twice means that URLs expired, or that files changed.
_ROUNDS_MAX = 4
_CHUNK_BYTES = 1 << 20
#: The service may read the files before it answers: longer than the other calls take.
_PUSH_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True)
class ModelFolder:
    """A model folder that was read and hashed."""

    path: Path
    manifest: dict[str, Any]
    files: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, folder: Folder) -> ModelFolder:
        path = Path(folder)
        manifest = json.loads((path / "model.json").read_text("utf-8-sig"))
        if not isinstance(manifest, dict) or not isinstance(manifest.get("name"), str):
            raise ValueError(f"{path / 'model.json'} is not a manifest: it has no `name`")
        artifacts = manifest.get("artifacts")
        named = [manifest.get("artifact"), manifest.get("labels")]
        named += artifacts.values() if isinstance(artifacts, Mapping) else []
        # The service names mistakes of the manifest. Only files of this folder are read.
        names = {name for name in named if isinstance(name, str) and Path(name).name == name}
        return cls(path, manifest, {name: _describe(path / name) for name in sorted(names)})

    def request(self, alias: str | None, trial: bool) -> dict[str, Any]:
        """The path and the body of the push."""
        body: dict[str, Any] = {"manifest": self.manifest, "files": self.files, "trial": trial}
        if alias is not None:
            body["alias"] = alias
        path = _versions(self.manifest["name"])
        return {"path": path, "json": body, "timeout_seconds": _PUSH_TIMEOUT_SECONDS}


def _describe(path: Path) -> dict[str, Any]:
    digest, length = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            length += len(chunk)
    return {"sha256": f"sha256:{digest.hexdigest()}", "bytes": length}


class _Upload:
    """The tries of one upload: which ones to repeat, and when. Repeating an upload is harmless."""

    def __init__(self, upload: Mapping[str, Any], retries: Retries) -> None:
        self._upload, self._retries = upload, retries
        self._tries, self._paused_seconds = 0, 0.0

    def pause_after(self, outcome: httpx.Response | httpx.TransportError) -> float | None:
        """Seconds until the next try; `None` if the file is stored, or if only a new URL can help."""
        if isinstance(outcome, httpx.Response) and outcome.status_code < 500:
            return None
        own: float = min(self._retries.pause_seconds * 2**self._tries, self._retries.pause_seconds_max)
        pause = random.uniform(0.5, 1.0) * own
        self._tries += 1
        # A try may take longer than the patience of a call. So only the pauses count.
        self._paused_seconds += pause
        if self._paused_seconds <= self._retries.patience_seconds:
            return pause
        if isinstance(outcome, httpx.Response):
            raise Unreachable(f"upload of {self._upload['file']}: HTTP {outcome.status_code}")
        raise Unreachable(f"upload of {self._upload['file']}: {outcome!r}") from outcome


def _not_stored(answer: httpx.Response | None) -> DarkroomError:
    said = "" if answer is None else f": HTTP {answer.status_code} {answer.text[:200]}"
    return DarkroomError(f"the object store did not take the files; do they change meanwhile?{said}")


def _path(model: str, *more: str | int) -> str:
    return "/".join(["/v1/models", *(quote(str(part), safe="") for part in (model, *more))])


def _versions(model: str) -> str:
    return _path(model, "versions")


def _verdict(
    model: str, version: int, retries: Retries, timeout: float | None
) -> Operation[dict[str, Any]]:
    until = None if timeout is None else time.monotonic() + timeout
    pause = 0.25
    while True:
        page = yield from operations.json(Call("GET", _versions(model)), retries)
        found: dict[str, Any] | None = next(
            (one for one in page["data"] if one["version"] == version), None
        )
        if found is None:
            raise DarkroomError(f"{model} has no version {version}")
        if found["state"] == "rejected":
            raise ModelRejected(found)
        if found["state"] != "validating":
            return found
        if until is not None and time.monotonic() + pause > until:
            raise StillRunning({"id": f"{model}:{version}", "status": "validating"})
        yield Pause(pause)
        pause = min(pause * 2, 2.0)


class Models:
    """The models of the service: `client.models`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list(self) -> builtins.list[dict[str, Any]]:
        """Every model that jobs may name."""
        found: builtins.list[dict[str, Any]] = self._client._json("GET", "/v1/models")["data"]
        return found

    def get(self, model: str) -> dict[str, Any]:
        """A model and its parameters."""
        found: dict[str, Any] = self._client._json("GET", _path(model))
        return found

    def versions(self, model: str) -> builtins.list[dict[str, Any]]:
        """The versions of a model, newest first, with their aliases."""
        found: builtins.list[dict[str, Any]] = self._client._json("GET", _versions(model))["data"]
        return found

    def push(self, folder: Folder, *, alias: str | None = None, trial: bool = True) -> dict[str, Any]:
        """Registers a folder with `model.json` as a version. The files go straight into the object store.

        Pushing an equal folder again is harmless: it is one version, and only `alias` moves. Returns `model`, `version`,
        `digest`, `new`, `state`, `moved` and `aliases`. Raises :class:`Refused`; its `errors` name every mistake.

        :param alias: the alias to point at the version
        :param trial: a worker has to load the version before jobs may name it and `alias` moves; :meth:`wait` waits for it
        """
        model = ModelFolder.read(folder)
        answer: httpx.Response | None = None
        for _ in range(_ROUNDS_MAX):
            pushed: dict[str, Any] = self._client._json("POST", **model.request(alias, trial))
            if not pushed["uploads"]:
                return pushed
            for upload in pushed["uploads"]:
                answer = self._upload(model.path / upload["file"], upload)
                if answer.status_code >= 400:
                    break  # the URL may have expired: the next round brings another one
        raise _not_stored(answer)

    def wait(self, model: str, version: int, timeout: float | None = None) -> dict[str, Any]:
        """Waits until a worker has loaded a version that was pushed, and its alias has moved. Returns the version.

        Raises :class:`ModelRejected` if the version cannot be loaded, and :class:`StillRunning` after `timeout` seconds.
        Without a worker that runs the model there is no verdict.
        """
        return self._client._do(_verdict(model, version, self._client.retries, timeout))

    def set_alias(self, model: str, alias: str, version: int) -> dict[str, Any]:
        """Points an alias at a version. `previous_version` of the answer is the version that it meant before."""
        path = _path(model, "aliases", alias)
        found: dict[str, Any] = self._client._json("PUT", path, json={"version": version})
        return found

    def delete_alias(self, model: str, alias: str) -> None:
        self._client._json("DELETE", _path(model, "aliases", alias))

    def retire(self, model: str, version: int) -> None:
        """Takes a version out of use: new jobs cannot name it. May be repeated."""
        self._client._json("POST", _path(model, "versions", version, "retire"))

    def unretire(self, model: str, version: int) -> None:
        """Takes back :meth:`retire`. May be repeated."""
        self._client._json("POST", _path(model, "versions", version, "unretire"))

    def _upload(self, path: Path, upload: Mapping[str, Any]) -> httpx.Response:
        tries = _Upload(upload, self._client.retries)
        while True:
            outcome: httpx.Response | httpx.TransportError
            try:
                # Without the headers of the client: the store must not see the API key.
                outcome = self._client._http.request(
                    upload["method"], upload["url"], headers=upload["headers"], content=_chunks(path)
                )
            except httpx.TransportError as error:
                outcome = error
            pause = tries.pause_after(outcome)
            if pause is None:
                assert isinstance(outcome, httpx.Response)
                return outcome
            time.sleep(pause)


class AsyncModels:
    """:class:`Models` of an `AsyncClient`."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def list(self) -> builtins.list[dict[str, Any]]:
        found: builtins.list[dict[str, Any]] = (await self._client._json("GET", "/v1/models"))["data"]
        return found

    async def get(self, model: str) -> dict[str, Any]:
        found: dict[str, Any] = await self._client._json("GET", _path(model))
        return found

    async def versions(self, model: str) -> builtins.list[dict[str, Any]]:
        page = await self._client._json("GET", _versions(model))
        found: builtins.list[dict[str, Any]] = page["data"]
        return found

    async def push(
        self, folder: Folder, *, alias: str | None = None, trial: bool = True
    ) -> dict[str, Any]:
        model = await asyncio.to_thread(ModelFolder.read, folder)
        answer: httpx.Response | None = None
        for _ in range(_ROUNDS_MAX):
            pushed: dict[str, Any] = await self._client._json("POST", **model.request(alias, trial))
            if not pushed["uploads"]:
                return pushed
            for upload in pushed["uploads"]:
                answer = await self._upload(model.path / upload["file"], upload)
                if answer.status_code >= 400:
                    break
        raise _not_stored(answer)

    async def wait(self, model: str, version: int, timeout: float | None = None) -> dict[str, Any]:
        return await self._client._do(_verdict(model, version, self._client.retries, timeout))

    async def set_alias(self, model: str, alias: str, version: int) -> dict[str, Any]:
        path = _path(model, "aliases", alias)
        found: dict[str, Any] = await self._client._json("PUT", path, json={"version": version})
        return found

    async def delete_alias(self, model: str, alias: str) -> None:
        await self._client._json("DELETE", _path(model, "aliases", alias))

    async def retire(self, model: str, version: int) -> None:
        await self._client._json("POST", _path(model, "versions", version, "retire"))

    async def unretire(self, model: str, version: int) -> None:
        await self._client._json("POST", _path(model, "versions", version, "unretire"))

    async def _upload(self, path: Path, upload: Mapping[str, Any]) -> httpx.Response:
        tries = _Upload(upload, self._client.retries)
        while True:
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = await self._client._http.request(
                    upload["method"], upload["url"], headers=upload["headers"], content=_async_chunks(path)
                )
            except httpx.TransportError as error:
                outcome = error
            pause = tries.pause_after(outcome)
            if pause is None:
                assert isinstance(outcome, httpx.Response)
                return outcome
            await asyncio.sleep(pause)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


async def _async_chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield chunk
