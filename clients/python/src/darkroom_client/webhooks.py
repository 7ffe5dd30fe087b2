"""Verifies webhook deliveries by https://www.standardwebhooks.com."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from .errors import WebhookError


def verify_webhook(
    headers: Mapping[str, str],
    body: bytes | str,
    secret: str | list[str],
    *,
    tolerance_seconds: float = 300,
) -> dict[str, Any]:
    """Verifies the signature and the age of a delivery and returns its event.

    `body` is the raw body, before any parsing. `secret` is `whsec_…`; during a rotation, give both secrets. The service
    repeats a delivery until your endpoint answers 2xx: store the `webhook-id` to handle each delivery once.

    Raises :class:`WebhookError`.
    """
    known = {name.lower(): value for name, value in headers.items()}
    try:
        message, sent_at = known["webhook-id"], known["webhook-timestamp"]
        signatures = known["webhook-signature"].split()
        age = abs(time.time() - int(sent_at))
    except (KeyError, ValueError) as error:
        raise WebhookError(f"no delivery of a webhook: {error}") from error
    if age > tolerance_seconds:
        raise WebhookError(f"sent {age:.0f} s ago, {tolerance_seconds:.0f} s are tolerated")
    raw = body.encode() if isinstance(body, str) else body
    signed = f"{message}.{sent_at}.".encode() + raw
    expected = [_signature(one, signed) for one in ([secret] if isinstance(secret, str) else secret)]
    # Compares every pair in constant time: an early end would show an attacker which signature was close.
    matches = [hmac.compare_digest(one.encode(), other) for one in signatures for other in expected]
    if not any(matches):
        raise WebhookError("the signature is not of this secret")
    event: dict[str, Any] = json.loads(raw)
    return event


def _signature(secret: str, signed: bytes) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise WebhookError("the secret is not `whsec_` and base64") from error
    return b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
