"""The forms of an image that a submit takes, and the bytes that the client sends for each."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol, Union


class PillowImage(Protocol):
    """A `PIL.Image.Image`. This package does not import Pillow."""

    @property
    def mode(self) -> str: ...

    @property
    def size(self) -> tuple[int, int]: ...

    @property
    def save(self) -> Callable[..., Any]: ...


class Array(Protocol):
    """A `numpy.ndarray`. This package does not import numpy."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def tobytes(self) -> bytes: ...


#: A path, a URL (`https://…`), the bytes, an open file, an image of Pillow, or an array of numpy.
Image = Union[
    str, "os.PathLike[str]", bytes, bytearray, memoryview, IO[bytes], PillowImage, Array
]

#: The modes that PNG keeps without loss.
_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})
#: Color types of PNG by the number of samples of a pixel.
_COLOR_TYPES = {1: 0, 3: 2, 4: 6}
#: The filter `Sub`: each byte minus the byte of the pixel to its left. Photos become about a third smaller.
_SUB = b"\x01"
#: Enough for most of what zlib can save, in a third of the time of its default.
_LEVEL = 3


def is_url(image: Image) -> bool:
    return isinstance(image, str) and image.startswith(("http://", "https://"))


def load(image: Image) -> str | bytes:
    """The URL, or the bytes to send. May take long: it reads a file or compresses pixels.

    Raises `TypeError` if the value is no image, and `OSError` if a file cannot be read.
    """
    if isinstance(image, str) and is_url(image):
        return image
    return read(image)


def read(image: Image) -> bytes:
    """The bytes to send. Pixels of Pillow and numpy are sent as PNG, without loss."""
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if isinstance(image, (str, os.PathLike)):
        return Path(image).read_bytes()
    # Before arrays: an image of Pillow has the interface of an array, too.
    if _has(image, "save", "mode", "size"):
        return _png_of_pillow(image)
    if _has(image, "read"):
        content = image.read()  # type: ignore[union-attr]
        if isinstance(content, (bytes, bytearray)):
            return bytes(content)
        raise TypeError(f"the file gives {type(content).__name__}, not bytes: open it with mode 'rb'")
    if _has(image, "__array_interface__", "shape", "dtype", "tobytes"):
        return _png_of_array(image)
    hint = "; call .numpy() on a tensor" if _has(image, "numpy") else ""
    raise TypeError(
        f"{_name(image)} is no image: give a path, a URL, bytes, an open file, an image of Pillow, or a uint8 array{hint}"
    )


def _has(image: object, *names: str) -> bool:
    return all(hasattr(image, name) for name in names)


def _name(image: object) -> str:
    kind = type(image)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _png_of_pillow(image: Any) -> bytes:
    if image.mode not in _MODES:
        raise TypeError(
            f"PNG cannot keep an image of mode {image.mode!r}: convert it, for example with .convert('RGB')"
        )
    file = io.BytesIO()
    # Without EXIF, which some versions of Pillow write: the service would turn pixels that Pillow shows as they are.
    image.save(file, format="PNG", compress_level=_LEVEL, exif=b"")
    return file.getvalue()


def _png_of_array(array: Any) -> bytes:
    shape = tuple(array.shape)
    if str(array.dtype) != "uint8":
        raise TypeError(f"the array has the type {array.dtype}: pixels must be uint8, from 0 to 255")
    samples = shape[2] if len(shape) == 3 else 1
    if len(shape) not in (2, 3) or samples not in _COLOR_TYPES or 0 in shape:
        first = len(shape) == 3 and shape[0] in _COLOR_TYPES
        hint = "; move the channels behind, with .transpose(1, 2, 0)" if first else ""
        raise TypeError(
            f"the array has the shape {shape}: it must be (height, width), (height, width, 3) for RGB, "
            f"or (height, width, 4) for RGBA{hint}"
        )
    height, width = shape[:2]
    pixels = array.reshape(height, width, samples)
    differences = pixels.copy()
    differences[:, 1:] -= pixels[:, :-1]  # wraps around, as PNG wants
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOR_TYPES[samples], 0, 0, 0)
    rows = _compressed(differences.reshape(height, width * samples))
    return b"".join(
        [b"\x89PNG\r\n\x1a\n", _chunk(b"IHDR", header), _chunk(b"IDAT", b"".join(rows)), _chunk(b"IEND", b"")]
    )


def _compressed(rows: Any) -> Iterator[bytes]:
    compressor = zlib.compressobj(_LEVEL)
    for row in rows:
        yield compressor.compress(_SUB + row.tobytes())
    yield compressor.flush()


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
