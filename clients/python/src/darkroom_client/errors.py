"""The errors of this package: one class for each reaction of a caller."""

from __future__ import annotations

from typing import Any


class DarkroomError(Exception):
    """Base class of all errors of this package."""


class Unreachable(DarkroomError):
    """No answer within the time of :class:`Retries`. The service may have received the request."""


class WebhookError(DarkroomError):
    """The delivery is not from your service, or is too old."""


class StillRunning(DarkroomError):
    """The job did not end within `timeout` and still runs."""

    def __init__(self, job: Any) -> None:
        super().__init__(f"{job['id']} is still {job['status']}")
        self.job = job


class Refused(DarkroomError):
    """The service answered with a problem (RFC 9457); branch on `code`."""

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
        said = ": ".join(text for text in (problem.get("title"), problem.get("detail")) if text)
        super().__init__(f"{said or 'no problem document'} ({self.code or 'HTTP'}, {status})")


class NotFound(Refused):
    """This key can see no such thing (404), or its data was deleted (410)."""


class Unavailable(Refused):
    """The service is busy or broken (429, 5xx) for longer than :class:`Retries` allows."""


class JobFailed(Refused):
    """The job ended without a result: it failed, expired or was canceled. `code` says why."""


def refused(status: int, problem: dict[str, Any]) -> Refused:
    """The subclass of :class:`Refused` that fits the status and the code."""
    if problem.get("code") == "job_failed":
        return JobFailed(status, problem)
    if status in (404, 410):
        return NotFound(status, problem)
    if status == 429 or status >= 500:
        return Unavailable(status, problem)
    return Refused(status, problem)
