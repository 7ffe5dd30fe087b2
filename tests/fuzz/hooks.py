"""What schemathesis does not know of: NDJSON."""

import json
from typing import Any

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(_context: Any, value: Any) -> bytes:
    """The document describes one line. A list that is generated against it stands for several."""
    values = value if isinstance(value, list) else [value]
    return b"".join(json.dumps(each, default=str).encode() + b"\n" for each in values)
