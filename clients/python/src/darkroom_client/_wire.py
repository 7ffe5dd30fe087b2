"""Requests and jobs as values, without network I/O."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict

from ._images import Image, load

if TYPE_CHECKING:
    from typing_extensions import Unpack

ENDED = frozenset({"succeeded", "failed", "canceled", "expired"})


class Job(dict[str, Any]):
    """A job as the service returns it. The most used fields are attributes."""

    etag: str | None = None

    @property
    def id(self) -> str:
        return str(self["id"])

    @property
    def status(self) -> str:
        """`scheduled`, `queued`, `running`, `succeeded`, `failed`, `canceled` or `expired`."""
        return str(self["status"])

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    @property
    def succeeded(self) -> bool:
        return self.status == "succeeded"

    @property
    def result(self) -> Any:
        """The result of the model; `None` unless the job succeeded.

        A large result is only its `url` and `bytes` here: `client.result(job)` reads it.
        """
        return self.get("result")

    @property
    def error(self) -> dict[str, Any] | None:
        """Why the job failed or expired: a problem with `code` and `detail`."""
        return self.get("error")


@dataclass(frozen=True)
class Call:
    """One request."""

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    json: Any = None
    #: Whether the request is safe to repeat: two requests have the effect of one.
    repeatable: bool = True
    #: How long the service may be silent; the default of the client if left out.
    timeout_seconds: float | None = None


class JobFields(TypedDict, total=False):
    """The options of a job, as keyword arguments."""

    #: `name`, `name@alias` or `name:version`; the default model of the service if left out.
    model: str | None
    #: The model's own parameters, see `client.models.get(name)["params"]`.
    params: Mapping[str, Any] | None
    #: Your metadata: up to 50 keys.
    metadata: Mapping[str, Any] | None
    #: From -100 to 100; jobs with a higher priority run first. Up to the `priority_max` of the key, 0 by default.
    priority: int | None
    #: A URL that gets the end of this job.
    webhook: str | None
    #: Not before this time. Text is RFC 3339; a `datetime` needs a time zone.
    run_at: str | datetime | None
    #: The job expires at this time.
    deadline: str | datetime | None
    #: From 1 to 20.
    max_attempts: int | None
    #: How long the service keeps the finished job: `P7D`, `PT12H`.
    retain_for: str | None


@dataclass(frozen=True)
class JobOptions:
    """The options of a job: every field but the image."""

    model: str | None = None
    params: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] | None = None
    priority: int | None = None
    webhook: str | None = None
    run_at: str | datetime | None = None
    deadline: str | datetime | None = None
    max_attempts: int | None = None
    retain_for: str | None = None

    @classmethod
    def of(cls, given: JobFields) -> JobOptions:
        """Raises `TypeError` for an option that does not exist."""
        unknown = sorted(set(given) - _FIELDS)
        if unknown:
            hint = f"a parameter of the model goes into params={{{unknown[0]!r}: …}}"
            raise TypeError(f"there is no option {unknown[0]!r}; {hint}")
        return cls(**given)

    def body(self) -> dict[str, Any]:
        """The options as JSON."""
        body: dict[str, Any] = {}
        for name in ("model", "priority", "run_at", "deadline", "max_attempts", "retain_for"):
            value = getattr(self, name)
            if value is not None:
                body[name] = value.isoformat() if isinstance(value, datetime) else value
        if self.params:
            body["params"] = dict(self.params)
        if self.metadata:
            body["metadata"] = dict(self.metadata)
        if self.webhook is not None:
            body["webhook"] = {"url": self.webhook}
        return body


_FIELDS = frozenset(option.name for option in fields(JobOptions))


def submission(
    image: Image, options: JobOptions, *, run: str | None, key: str | None, wait: int, fresh: bool
) -> tuple[Call, str | None]:
    """The request that submits an image, and the digest that the service must report (`None` for a URL)."""
    body = options.body()
    content, digest = None, None
    loaded = load(image)
    if isinstance(loaded, str):
        body["image"] = {"url": loaded}
    else:
        content = loaded
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
    if key is None and run is not None:
        asked = json.dumps([run, digest, body], sort_keys=True, default=str)
        key = hashlib.sha256(asked.encode()).hexdigest()
    headers = {"Idempotency-Key": key or str(uuid.uuid4())}
    if wait:
        headers["Prefer"] = f"wait={wait}"
    if fresh:
        headers["Cache-Control"] = "no-cache"
    if content is None:
        return Call("POST", "/v1/jobs", headers=headers, json=body), None
    if _fits_a_query(body):
        headers["Content-Type"] = "application/octet-stream"
        query = {name: value for name, value in body.items() if name not in ("params", "metadata")}
        query |= body.get("params", {})
        query |= {f"metadata.{name}": value for name, value in body.get("metadata", {}).items()}
        texts = {name: _as_text(value) for name, value in query.items()}
        return Call("POST", "/v1/jobs", query=texts, headers=headers, content=content), digest
    boundary = f"darkroom-{uuid.uuid4().hex}"
    headers["Content-Type"] = f"multipart/form-data; boundary={boundary}"
    return Call("POST", "/v1/jobs", headers=headers, content=_multipart(boundary, body, content)), digest


def _fits_a_query(body: Mapping[str, Any]) -> bool:
    """Whether a query can carry the options.

    A query has no objects, and the service reads `5` as a number. A parameter must not have the name of an option.
    """
    params, metadata = body.get("params", {}), body.get("metadata", {})
    return (
        "webhook" not in body
        and all(isinstance(value, (bool, int, float)) for value in params.values())
        and all(isinstance(value, str) for value in metadata.values())
        and not any(name in _FIELDS or name.startswith("metadata.") for name in params)
    )


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _multipart(boundary: str, body: Mapping[str, Any], image: bytes) -> bytes:
    def part(name: str, kind: str, content: bytes) -> bytes:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
        return f"{head}Content-Type: {kind}\r\n\r\n".encode() + content + b"\r\n"

    job = part("job", "application/json", json.dumps(body).encode())
    return job + part("image", "application/octet-stream", image) + f"--{boundary}--\r\n".encode()


def batch_line(custom_id: str, image: Image, **options: Unpack[JobFields]) -> dict[str, Any]:
    """One line of a batch. `image`: as in `submit`, or the `sha256:…` of an uploaded image.

    Raises `TypeError` for an option that does not exist, and `OSError` if the file cannot be read.
    """
    body = JobOptions.of(options).body()
    source: dict[str, str]
    if isinstance(image, str) and image.startswith("sha256:"):
        source = {"sha256": image}
    else:
        loaded = load(image)
        source = (
            {"url": loaded}
            if isinstance(loaded, str)
            else {"data": base64.b64encode(loaded).decode()}
        )
    return {"custom_id": custom_id, "image": source, **body}


def batch(lines: list[dict[str, Any]], key: str | None) -> Call:
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    headers = {
        "Content-Type": "application/x-ndjson",
        "Idempotency-Key": key or str(uuid.uuid4()),
    }
    return Call("POST", "/v1/batches", headers=headers, content=content)
