"""The errors of this package: one class for each reaction of a caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._wire import Job


class DarkroomError(Exception):
    """Base class of all errors of this package."""


class Unreachable(DarkroomError):
    """No answer within the time of :class:`Retries`. The service may have received the request."""


class WebhookError(DarkroomError):
    """The delivery is not from your service, or is too old."""


class ModelRejected(DarkroomError):
    """No worker can load the version of a model. No alias has moved."""

    def __init__(self, version: dict[str, Any]) -> None:
        #: The first lines of the reason; `None` if the key may not see them.
        self.cause: str | None = version.get("state_cause")
        self.version = version
        worker = version.get("state_worker")
        by = f" by the worker {worker}" if worker else ""
        cause = self.cause or "the cause needs a key with the scope `operate` or `admin`"
        super().__init__(f"{version['name']}:{version['version']} was rejected{by}: {cause}")


class StillRunning(DarkroomError):
    """The job did not end within `timeout` and still runs."""

    def __init__(self, job: Any) -> None:
        super().__init__(f"{job['id']} is still {job['status']}")
        self.job = job


class Refused(DarkroomError):
    """The service answered with a problem (RFC 9457); branch on `code`.

    As text it is the title, the detail, the code and the request's id, then one line for each wrong part of the request.
    """

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.problem = problem
        #: A code of the list at `/problems` of the service; empty if a proxy answered.
        self.code: str = problem.get("code") or ""
        #: Whether the request may succeed later.
        self.retryable: bool = bool(problem.get("retryable", status in (429, 502, 503, 504)))
        #: The id to give to the operator of the service.
        self.request_id: str | None = problem.get("request_id")
        #: The wrong parts of the request: `{"pointer", "code", "detail"}`.
        self.errors: list[dict[str, Any]] = problem.get("errors") or []
        super().__init__(status, problem)

    def __str__(self) -> str:
        said = [str(self.problem[part]) for part in ("title", "detail") if self.problem.get(part)]
        head = ": ".join(said) or "no problem document"
        # The detail of a problem with one mistake may be this mistake.
        detail = self.problem.get("detail")
        lines = [line for line in map(_line, self.errors) if line.strip() != detail]
        return "\n".join([f"{head} ({', '.join(self._facts())})", *lines])

    def _facts(self) -> list[str]:
        facts = [self.code, f"HTTP {self.status}", self.request_id and f"request {self.request_id}"]
        return [fact for fact in facts if fact]


class NotFound(Refused):
    """This key can see no such thing (404), or its data was deleted (410)."""


class Unavailable(Refused):
    """The service is busy or broken (429, 5xx) for longer than :class:`Retries` allows."""


class JobFailed(Refused):
    """The job ended without a result: it failed, expired or was canceled. `code` says why."""

    #: The job.
    job: Job | None = None

    def _facts(self) -> list[str]:
        return super()._facts() if self.job is None else [self.code, self.job.id]


def _line(error: Any) -> str:
    if not isinstance(error, dict):
        return f"  {error}"
    return f"  {error.get('pointer') or '/'}: {error.get('detail') or error.get('code')}"


def refused(status: int, problem: dict[str, Any]) -> Refused:
    """The subclass of :class:`Refused` that fits the status and the code."""
    if problem.get("code") == "job_failed":
        return JobFailed(status, problem)
    if status in (404, 410):
        return NotFound(status, problem)
    if status == 429 or status >= 500:
        return Unavailable(status, problem)
    return Refused(status, problem)


def job_failed(job: Job) -> JobFailed:
    problem = job.error or {"code": job.status, "title": f"The job was {job.status}"}
    error = JobFailed(409, problem)
    error.job = job
    return error
