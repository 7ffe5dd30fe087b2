"""Adds NDJSON bodies to schemathesis."""

import json
from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(_context: Any, value: Any) -> bytes:
    """Writes a list as one line for each value. The document describes one line."""
    values = value if isinstance(value, list) else [value]
    return b"".join(json.dumps(each, default=str).encode() + b"\n" for each in values)
