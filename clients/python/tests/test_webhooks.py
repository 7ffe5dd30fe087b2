import base64
import time

import pytest
from darkroom_client import WebhookError, verify_webhook
from darkroom_client.webhooks import _signature

#: The example of the Standard Webhooks libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"


def delivery(body: bytes = BODY, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    stamp = str(int(time.time() if at is None else at))
    signature = _signature(secret, f"{ID}.{stamp}.".encode() + body).decode()
    return {"Webhook-Id": ID, "Webhook-Timestamp": stamp, "Webhook-Signature": f"v1,AAAA {signature}"}


def test_the_signature_equals_the_example_of_the_standard() -> None:
    signed = f"{ID}.1614265330.".encode() + BODY
    assert _signature(SECRET, signed) == b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_delivery_is_verified_and_read() -> None:
    assert verify_webhook(delivery(), BODY, SECRET) == {"test": 2432232314}
    other = "whsec_" + base64.b64encode(b"x" * 24).decode()
    assert verify_webhook(delivery(), BODY, [other, SECRET])


def test_a_changed_old_or_unsigned_delivery_is_refused() -> None:
    for headers, body, secret in [
        (delivery(), BODY + b" ", SECRET),
        (delivery(at=time.time() - 400), BODY, SECRET),
        (delivery(at=time.time() + 400), BODY, SECRET),
        ({}, BODY, SECRET),
        ({**delivery(), "Webhook-Signature": "v1,"}, BODY, SECRET),
        (delivery(), BODY, "whsec_" + base64.b64encode(b"y" * 24).decode()),
    ]:
        with pytest.raises(WebhookError):
            verify_webhook(headers, body, secret)
