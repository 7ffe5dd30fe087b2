"""These tests use a fake service that records its requests."""

from __future__ import annotations

import httpx
import pytest

from darkroom_client import Client, Refused, Retries, Unavailable, Unreachable

JOB = {"id": "job_1", "status": "queued"}


class FakeService:
    """A fake service: gives these answers in order and records the requests."""

    def __init__(self, *answers: httpx.Response | httpx.TransportError) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, httpx.TransportError):
            raise answer
        return answer

    def client(self, patience_seconds: float = 5) -> Client:
        retries = Retries(patience_seconds=patience_seconds, pause_seconds=0.001)
        http = httpx.Client(transport=httpx.MockTransport(self))
        return Client("http://darkroom", "dk_1_x", retries=retries, http=http)


def problem(status: int, code: str, retry_after: str | None = None) -> httpx.Response:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return httpx.Response(status, json={"code": code, "status": status}, headers=headers)


def test_all_tries_of_a_submit_have_one_idempotency_key() -> None:
    lost, refused = httpx.ReadError("lost"), httpx.ConnectError("refused")
    busy, in_flight = problem(503, "queue_full"), problem(409, "idempotency_in_flight")
    service = FakeService(refused, lost, busy, in_flight, httpx.Response(202, json=JOB))
    assert service.client().submit(b"image").id == "job_1"
    keys = {request.headers["idempotency-key"] for request in service.requests}
    assert len(service.requests) == 5 and len(keys) == 1


def test_an_unsafe_request_is_not_repeated_if_the_service_may_have_received_it() -> None:
    service = FakeService(httpx.ReadError("lost"))
    with pytest.raises(Unreachable):
        service.client().retry("job_1")
    service = FakeService(httpx.ConnectError("refused"), httpx.Response(202, json=JOB))
    assert service.client().retry("job_1").id == "job_1"


def test_a_refused_request_is_not_repeated() -> None:
    for status in (400, 401, 403, 409, 413, 422):
        service = FakeService(problem(status, "invalid_request"))
        with pytest.raises(Refused):
            service.client().submit(b"image")
        assert len(service.requests) == 1


def test_retries_end_when_patience_is_used_up() -> None:
    service = FakeService(problem(429, "rate_limited", retry_after="60"))
    with pytest.raises(Unavailable) as unavailable:
        service.client(patience_seconds=1).submit(b"image")
    assert unavailable.value.code == "rate_limited" and unavailable.value.retryable


def test_a_pause_is_at_least_retry_after() -> None:
    pauses = [
        Retries().pause_after(problem(429, "rate_limited", "3"), tries, repeatable=True)
        for tries in range(20)
    ]
    assert all(pause is not None and 3 <= pause <= 6 for pause in pauses)
    assert len(set(pauses)) == 20


def test_a_wait_sends_the_etag_of_the_known_job() -> None:
    service = FakeService(
        httpx.Response(200, json=JOB, headers={"ETag": '"1"'}),
        httpx.Response(304, headers={"Preference-Applied": "wait=60"}),
        httpx.Response(200, json={"id": "job_1", "status": "succeeded", "result": 7}),
    )
    assert service.client().wait("job_1").result == 7
    assert [request.headers.get("if-none-match") for request in service.requests] == [None, '"1"', '"1"']
    assert service.requests[1].headers["prefer"] == "wait=60"
