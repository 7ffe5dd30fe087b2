"""What the client sends for each form of an image. These tests need no service."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from darkroom_client._images import load, read


def decoded(content: bytes) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(content))


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4), (300, 1, 3), (1, 300, 4)])
def test_an_array_keeps_every_pixel(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    # Memory in another order, or that cannot be written, is still this picture.
    for given in (array, array[::-1, ::-1], np.asfortranarray(array), np.asarray(decoded(read(array)))):
        assert np.array_equal(np.asarray(decoded(read(given))).reshape(given.shape), given)
    assert np.array_equal(np.asarray(decoded(read(array))).reshape(shape), array)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_an_image_of_pillow_keeps_every_pixel(mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    picture = PIL.Image.fromarray(noise).convert(mode)
    back = decoded(read(picture))
    assert back.mode == mode
    assert back.convert("RGBA").tobytes() == picture.convert("RGBA").tobytes()


def test_exif_does_not_turn_the_pixels_of_an_opened_photo() -> None:
    photo = io.BytesIO()
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.new("RGB", (4, 2)).save(photo, "JPEG", exif=exif)
    sent = decoded(read(decoded(photo.getvalue())))
    assert sent.size == (4, 2) and 0x0112 not in sent.getexif()


def test_paths_bytes_and_files_are_sent_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\xff\xd8\xff")
    forms = [path, str(path), b"\xff\xd8\xff", bytearray(b"\xff\xd8\xff"), memoryview(b"\xff\xd8\xff")]
    assert {read(form) for form in forms} == {b"\xff\xd8\xff"}
    with path.open("rb") as file:
        assert read(file) == b"\xff\xd8\xff"
    assert load("https://example.com/a.jpg") == "https://example.com/a.jpg"


class Tensor:
    def numpy(self) -> None: ...


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.zeros((3, 5, 5), np.uint8), "transpose"),
        (np.zeros((5, 5, 3)), "float64: pixels must be uint8"),
        (np.zeros((5, 5), bool), "bool"),
        (np.zeros((0, 5), np.uint8), r"\(0, 5\)"),
        (np.zeros((2, 5, 5, 3), np.uint8), "height, width"),
        (np.uint8(3), "shape"),
        (PIL.Image.new("CMYK", (2, 2)), "'CMYK'.*convert"),
        (io.StringIO("text"), "'rb'"),
        (Tensor(), r"\.numpy\(\)"),
        (None, "NoneType is no image"),
        ([1, 2], "list is no image"),
    ],
)
def test_a_value_that_is_no_image_is_refused(value: object, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        load(value)  # type: ignore[arg-type]
