"""Runs the Python of README.md and docs/clients.md as a reader does: the blocks of a page in order, as one program."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from conftest import PHOTOS
from darkroom_client import Client

ROOT = Path(__file__).parents[3]
MODEL = ROOT / "models/efficientnet-lite0-embed"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def run_blocks(page: Path) -> dict[str, Any]:
    """The names that the program has at its end."""
    text = page.read_text()
    names: dict[str, Any] = {"__name__": "__main__"}
    # A block in a list is indented.
    fences = list(re.finditer(r"^( *)```python\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE))
    assert fences, f"{page} has no block of Python"
    for fence in fences:
        indent, code = fence[1], fence[2]
        lines = text.count("\n", 0, fence.start(2))
        code = re.sub(rf"^{indent}", "", code, flags=re.MULTILINE)
        # The line numbers of a traceback are those of the page.
        exec(compile("\n" * lines + code, str(page), "exec"), names)
    return names


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, darkroom: Client) -> Path:
    """A working directory with the files that the pages name, and a model `resnet50` that has one version."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    shutil.copy(PHOTOS / "cat.jpg", "cat.jpg")
    Path("photos").mkdir()
    for photo in ("cat.jpg", "coffee.jpg"):
        shutil.copy(PHOTOS / photo, "photos")
    Path("photos/torn.jpg").write_bytes(b"no image")
    model = Path("models/resnet50")
    model.mkdir(parents=True)
    shutil.copy(MODEL / "model.pt", model)
    manifest = {**json.loads((MODEL / "model.json").read_text()), "name": "resnet50"}
    for source in ("an earlier version", str(uuid.uuid4())):
        (model / "model.json").write_text(json.dumps({**manifest, "source": source}))
        if source == "an earlier version":
            darkroom.models.push(model, trial=False)
    return tmp_path


def test_the_readme_runs(directory: Path, darkroom: Client, capsys: pytest.CaptureFixture[str]) -> None:
    names = run_blocks(ROOT / "clients/python/README.md")
    printed = capsys.readouterr().out
    assert "tabby" in printed or "cat" in printed
    assert "torn.jpg" in printed
    versions = {one["version"]: one for one in darkroom.models.versions("resnet50")}
    newest = max(versions)
    assert set(versions[newest]["aliases"]) >= {"canary", "default"}
    assert versions[1]["retired"]
    darkroom.models.unretire("resnet50", 1)

    body, message, at = b'{"type": "job.succeeded", "data": {"id": "job_1"}}', "msg_1", str(int(time.time()))
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    signature = hmac.digest(key, f"{message}.{at}.".encode() + body, hashlib.sha256)
    headers = {
        "webhook-id": message,
        "webhook-timestamp": at,
        "webhook-signature": "v1," + base64.b64encode(signature).decode(),
    }
    assert names["on_delivery"](headers, body) == 204
    assert names["on_delivery"](headers, body + b" ") == 400


def test_the_page_about_clients_runs(directory: Path, darkroom: Client) -> None:
    run_blocks(ROOT / "docs/clients.md")
    newest = darkroom.models.versions("resnet50")[0]
    assert set(newest["aliases"]) >= {"canary", "default"}
