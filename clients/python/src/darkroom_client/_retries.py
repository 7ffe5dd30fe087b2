"""When to send a request again."""

from __future__ import annotations

import random
from dataclasses import dataclass

import httpx


@dataclass(frozen=True)
class Retries:
    """How long to retry a call while the service is away or busy.

    Only requests that are safe to repeat are sent again. A submit has an `Idempotency-Key`, so a repeated submit is still
    one job. Pauses grow, have random jitter, and are never shorter than `Retry-After`.
    """

    #: Total time of all tries of one call; 0: no retry.
    patience_seconds: float = 60.0
    pause_seconds: float = 0.2
    pause_seconds_max: float = 10.0

    def pause_after(
        self,
        outcome: httpx.Response | httpx.TransportError,
        tries: int,
        *,
        repeatable: bool,
    ) -> float | None:
        """Seconds to wait before the next try. `tries`: tries before this one. `None`: do not retry."""
        asked = 0.0
        if isinstance(outcome, httpx.Response):
            if not _is_worth_retrying(outcome, repeatable):
                return None
            asked = _retry_after_seconds(outcome)
        elif not repeatable and not isinstance(outcome, httpx.ConnectError):
            return None  # the service may have received the request
        own: float = min(self.pause_seconds * 2**tries, self.pause_seconds_max)
        if asked:
            return asked + random.uniform(0.0, min(own, asked))
        return random.uniform(0.5, 1.0) * own


def _is_worth_retrying(response: httpx.Response, repeatable: bool) -> bool:
    if response.status_code == 409:
        return "idempotency_in_flight" in response.text
    return response.status_code in (429, 503) or (repeatable and response.status_code in (502, 504))


def _retry_after_seconds(response: httpx.Response) -> float:
    try:
        return max(float(response.headers.get("retry-after", "0")), 0.0)
    except ValueError:
        return 0.0
