"""What can go wrong, by what a caller can do about it."""

from __future__ import annotations

from typing import Any


class DarkroomError(Exception):
    """Anything that goes wrong here."""


class Unreachable(DarkroomError):
    """No answer, for as long as :class:`Retries` allows. A submit may or may not have been heard."""


class WebhookError(DarkroomError):
    """A delivery that is not from your service, or too old."""


class StillRunning(DarkroomError):
    """The job did not end within `timeout`; it goes on."""

    def __init__(self, job: Any) -> None:
        super().__init__(f"{job['id']} is still {job['status']}")
        self.job = job


class Refused(DarkroomError):
    """The service answered with a problem (RFC 9457); branch on `code`."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.problem = problem
        #: One of a frozen list, see `/problems` of the service; empty if something in between answered.
        self.code: str = problem.get("code") or ""
        #: Whether the same request may succeed later.
        self.retryable: bool = bool(problem.get("retryable", status in (429, 502, 503, 504)))
        #: To quote to whoever runs the service.
        self.request_id: str | None = problem.get("request_id")
        #: Which parts of the request are at fault: `{"pointer", "code", "detail"}`.
        self.errors: list[dict[str, Any]] = problem.get("errors") or []
        said = ": ".join(text for text in (problem.get("title"), problem.get("detail")) if text)
        super().__init__(f"{said or 'no problem document'} ({self.code or 'HTTP'}, {status})")


class NotFound(Refused):
    """There is no such thing, or not for this key (404), or its data was deleted (410)."""


class Unavailable(Refused):
    """The service is busy or in trouble (429, 5xx), for longer than :class:`Retries` allows."""


class JobFailed(Refused):
    """The job ended without a result: it failed, expired or was canceled. `code` says why."""


def refused(status: int, problem: dict[str, Any]) -> Refused:
    """The error that fits."""
    if problem.get("code") == "job_failed":
        return JobFailed(status, problem)
    if status in (404, 410):
        return NotFound(status, problem)
    if status == 429 or status >= 500:
        return Unavailable(status, problem)
    return Refused(status, problem)
