"""Whole folders: which files are images, the prediction or the error of each file, and how many are under way at once."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

from ._wire import Job
from .errors import DarkroomError, JobFailed, Refused, StillRunning

Folder = Union[str, "os.PathLike[str]"]

#: A file with such a name counts as an image, whatever its bytes are: the service says what is wrong with it.
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
_FIRST_BYTES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")


@dataclass(frozen=True)
class FilePrediction:
    """One file of a folder: with a job that succeeded, or with an error."""

    path: Path
    #: The job; `None` if the file did not become one.
    job: Job | None = None
    #: Why there is no result: `OSError` (the file cannot be read), `Refused`, `JobFailed` or `StillRunning`.
    error: DarkroomError | OSError | None = None

    @property
    def succeeded(self) -> bool:
        return self.error is None

    @property
    def result(self) -> dict[str, Any] | None:
        """The result of the model, as `predict` returns it; `None` if there is an error."""
        return self.job.result if self.job is not None and self.error is None else None


def failure(path: Path, error: DarkroomError | OSError) -> FilePrediction:
    """A file with its error. Raises an error that every other file would have, too."""
    if not _is_fault_of_file(error):
        raise error
    job = error.job if isinstance(error, (JobFailed, StillRunning)) else None
    return FilePrediction(path, job, error)


def _is_fault_of_file(error: DarkroomError | OSError) -> bool:
    if isinstance(error, (OSError, JobFailed, StillRunning)):
        return True
    if not isinstance(error, Refused):
        return False
    # An empty file is an `invalid_request`. A proxy refuses a large file without a code.
    return (
        error.code in ("invalid_request", "unsupported_media_type")
        or error.code.startswith("image_")
        or error.status == 413
    )


def find_images(folder: Folder) -> tuple[list[Path], list[FilePrediction]]:
    """The images of a folder and its subfolders in the order of their names, and the subfolders that cannot be read.

    Leaves out hidden files, links to folders, and files that are no image by name or by first bytes.
    """
    os.listdir(folder)  # raises if there is no such folder
    images: list[Path] = []
    unreadable: list[OSError] = []
    for parent, folders, files in os.walk(folder, onerror=unreadable.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(parent, name) for name in files if not name.startswith("."))
        images += (path for path in paths if path.is_file() and _looks_like_an_image(path))
    return sorted(images), [FilePrediction(Path(error.filename), None, error) for error in unreadable]


def _looks_like_an_image(path: Path) -> bool:
    if path.suffix.lower() in _SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return True  # to be reported with this error
    return head.startswith(_FIRST_BYTES) or (head[:4] == b"RIFF" and head[8:] == b"WEBP")


def check_concurrency(concurrency: int) -> None:
    if concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, not {concurrency}")


def each(
    paths: list[Path], one: Callable[[Path], FilePrediction], concurrency: int
) -> Iterator[FilePrediction]:
    """The files as their jobs end. Begins a file when an earlier one has ended and the caller has taken it."""
    rest = iter(paths)
    running: set[concurrent.futures.Future[FilePrediction]] = set()
    with concurrent.futures.ThreadPoolExecutor(concurrency) as threads:
        while True:
            new = itertools.islice(rest, concurrency - len(running))
            running |= {threads.submit(one, path) for path in new}
            if not running:
                return
            ended, running = concurrent.futures.wait(
                running, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in ended:
                yield future.result()


async def each_async(
    paths: list[Path], one: Callable[[Path], Awaitable[FilePrediction]], concurrency: int
) -> AsyncGenerator[FilePrediction, None]:
    """:func:`each` for coroutines. Cancels what is under way if the caller stops early."""
    rest = iter(paths)
    running: set[asyncio.Future[FilePrediction]] = set()
    ended: set[asyncio.Future[FilePrediction]] = set()
    try:
        while True:
            new = itertools.islice(rest, concurrency - len(running))
            running |= {asyncio.ensure_future(one(path)) for path in new}
            if not running:
                return
            ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for future in ended:
                yield future.result()
    finally:
        for left in running:
            left.cancel()
        # Of several errors the first is raised.
        await asyncio.gather(*running, *ended, return_exceptions=True)
