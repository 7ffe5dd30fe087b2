"""Talks to a running stack: jobs through REST, models through the command `darkroom`. Needs no package but Pillow.

The stack is that of the environment: DARKROOM_URL, DARKROOM_API_KEY, and what `darkroom` needs.
"""

import io
import json
import os
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image

from entry import Json

JOB_SECONDS_MAX = 900.0
REQUEST_SECONDS_MAX = 90.0
REPORT_SECONDS_MAX = 60.0
ENDED = {"succeeded", "failed", "canceled", "expired"}


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key of the service must not reach the bucket."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Service:
    """The REST side of a stack."""

    def __init__(self) -> None:
        self.url = os.environ["DARKROOM_URL"].rstrip("/")
        self.key = os.environ["DARKROOM_API_KEY"]
        self.opener = urllib.request.build_opener(NoRedirect)

    def job(self, photo: Path, model: str, params: Json) -> Json:
        """Submits a photo as a new job, and returns the job when it has ended."""
        query = urllib.parse.urlencode({"model": model} | params)
        headers = {"Content-Type": "application/octet-stream", "Cache-Control": "no-cache", "Prefer": "wait=60"}
        job = self._json("POST", f"/v1/jobs?{query}", photo.read_bytes(), headers)
        until = time.monotonic() + JOB_SECONDS_MAX
        while job["status"] not in ENDED:
            if time.monotonic() > until:
                raise TimeoutError(f"{job['id']} is {job['status']} after {JOB_SECONDS_MAX} s")
            time.sleep(0.3)
            job = self._json("GET", f"/v1/jobs/{job['id']}")
        return job

    def result(self, job: Json) -> Any:
        """The result of a job that has succeeded: JSON, or the picture of a mask."""
        if job["status"] != "succeeded":
            raise ValueError(f"{job['model']}: {job['status']}: {job['error']}")
        result = job["result"]
        if "mask_url" in result:
            return Image.open(io.BytesIO(self._stored(result["mask_url"])))
        return json.loads(self._stored(result["url"])) if "url" in result else result

    def aliases(self, model: str) -> Json:
        """The version of each alias of a model, and the number of its versions."""
        versions = self._json("GET", f"/v1/models/{model}/versions")["data"]
        aliases = {alias: one["version"] for one in versions for alias in one["aliases"]}
        return aliases | {"versions": len(versions)}

    def version_state(self, model: str) -> Json:
        """The newest version of a model."""
        versions = self._json("GET", f"/v1/models/{model}/versions")["data"]
        return max(versions, key=lambda one: one["version"])

    def warning(self, model: str) -> str:
        """What a worker says about a model that it has loaded; empty without a warning. Workers report every few seconds."""
        until = time.monotonic() + REPORT_SECONDS_MAX
        while time.monotonic() < until:
            workers = self._json("GET", "/v1/workers")["data"]
            loaded = [one for worker in workers for one in worker["loaded"] if one["model"].split(":")[0] == model]
            if loaded:
                return loaded[-1].get("warning") or ""
            time.sleep(1.0)
        raise TimeoutError(f"no worker reports {model} as loaded")

    def _stored(self, path: str) -> bytes:
        """An object of the bucket, which the service names by a signed URL."""
        try:
            self._open("GET", path)
        except urllib.error.HTTPError as answer:
            if answer.code != 303:
                raise
            with urllib.request.urlopen(answer.headers["Location"], timeout=REQUEST_SECONDS_MAX) as response:
                return response.read()
        raise ValueError(f"{path} was no redirect")

    def _json(self, method: str, path: str, body: bytes | None = None, headers: Json | None = None) -> Json:
        until = time.monotonic() + JOB_SECONDS_MAX
        while True:
            try:
                return json.loads(self._open(method, path, body, headers))
            except urllib.error.HTTPError as answer:
                if answer.code not in (429, 503) or time.monotonic() > until:
                    raise ValueError(f"{method} {path}: {answer.code} {answer.read().decode()}") from answer
                time.sleep(float(answer.headers.get("Retry-After", 1)))

    def _open(self, method: str, path: str, body: bytes | None = None, headers: Json | None = None) -> bytes:
        all_headers = {"Authorization": f"Bearer {self.key}"} | (headers or {})
        request = urllib.request.Request(self.url + path, body, all_headers, method=method)
        with self.opener.open(request, timeout=REQUEST_SECONDS_MAX) as response:
            return response.read()


def darkroom(*arguments: str) -> tuple[int, str]:
    """Runs the command `darkroom`. Returns its exit code, and all that it printed."""
    program = os.environ["DARKROOM_PROGRAM"]
    run = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    return run.returncode, run.stdout + run.stderr
