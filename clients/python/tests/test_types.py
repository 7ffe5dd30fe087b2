"""mypy accepts the package, and finds the mistakes of its users."""

import os
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1]

USE = """
import io
import numpy as np
from PIL import Image
from darkroom_client import Client, batch_line

darkroom = Client()
photo = Image.new("RGB", (2, 2))
array = np.zeros((2, 2, 3), np.uint8)
for image in (photo, array):
    darkroom.predict(image, params={"top_k": 2})
darkroom.submit("cat.jpg", model="lite", wait=True)
darkroom.submit(b"image")
darkroom.submit(io.BytesIO(b"image"))
darkroom.submit(open("cat.jpg", "rb"))
batch_line("a", array, priority=3)
for outcome in darkroom.predict_folder("photos", concurrency=2):
    labels = (outcome.result or {})["labels"]
darkroom.predict(photo, topk=5)  # unknown
darkroom.list(state="failed")  # unknown
darkroom.submit(5)  # no image
"""


def mypy(*args: str) -> str:
    environment = {**os.environ, "MYPYPATH": str(PACKAGE / "src")}
    command = [sys.executable, "-m", "mypy", "--no-error-summary", *args]
    return subprocess.run(command, cwd=PACKAGE, env=environment, capture_output=True, text=True).stdout


def test_the_package_and_its_use_are_typed(tmp_path: Path) -> None:
    use = tmp_path / "use.py"
    use.write_text(USE)
    cache = f"--cache-dir={tmp_path / 'cache'}"
    found = mypy(cache, "src", str(use)).splitlines()
    errors = [line for line in found if ": error:" in line]
    marked = [at for at, line in enumerate(USE.splitlines(), 1) if "# " in line]
    assert [int(line.split(":")[1]) for line in errors] == marked, "\n".join(found)
    assert all(line.startswith(str(use)) for line in errors), "\n".join(found)
