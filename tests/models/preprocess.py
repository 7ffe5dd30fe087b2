"""From a photo to the input of a model, by the manifest: Pillow and torchvision alone. Knows nothing of Darkroom's code.

Also maps places of the input back to the photo.
"""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import functional

from entry import Json

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "catmull_rom": Image.Resampling.BICUBIC,
    "lanczos3": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Placed:
    """A photo in the pixels of a model's input, and the way back: photo = (input - offset) * scale."""

    pixels: Image.Image
    photo_size: tuple[int, int]
    offset: tuple[float, float]
    scale: tuple[float, float]

    def to_photo(self, x: float, y: float) -> tuple[float, float]:
        """Maps a place of the input to the photo."""
        return (x - self.offset[0]) * self.scale[0], (y - self.offset[1]) * self.scale[1]

    def to_input(self, x: float, y: float) -> tuple[float, float]:
        """Maps a place of the photo to the input."""
        return x / self.scale[0] + self.offset[0], y / self.scale[1] + self.offset[1]


def place(photo: Image.Image, spec: Json) -> Placed:
    """Resizes an upright RGB photo as `spec`, the `input` of a manifest, says."""
    resize = spec["resize"]
    if isinstance(resize, dict):
        return _shorter_side(photo, resize)
    how = FILTERS[spec.get("filter", "catmull_rom")]
    size = (spec["width"], spec["height"])
    if resize == "stretch":
        scale = (photo.width / size[0], photo.height / size[1])
        return Placed(photo.resize(size, how), photo.size, (0.0, 0.0), scale)
    if resize == "letterbox":
        return _letterbox(photo, size, how, tuple(spec.get("pad_color", (114, 114, 114))))
    raise ValueError(f"the zoo has no reference for `{resize}`")


def normalize(placed: Placed, spec: Json) -> torch.Tensor:
    """`f32[3, height, width]`: (pixel - mean) / std."""
    pixels = torch.from_numpy(np.asarray(placed.pixels).copy()).permute(2, 0, 1).float()
    mean, std = (torch.tensor(spec[name], dtype=torch.float32).view(3, 1, 1) for name in ("mean", "std"))
    return (pixels - mean) / std


def of_the_size(photo: Image.Image, spec: Json) -> Image.Image:
    """The photo, made so small that the manifest's resize has nothing to do. Then both sides see equal pixels."""
    resize = spec["resize"]
    side = resize["shorter_side"] if isinstance(resize, dict) else None
    size = (side, side) if side else (spec["width"], spec["height"])
    return photo.resize(size, Image.Resampling.LANCZOS)


def _shorter_side(photo: Image.Image, resize: Json) -> Placed:
    how = functional.InterpolationMode(resize.get("interpolation", "bilinear"))
    resized = functional.resize(photo, [resize["shorter_side"]], how)
    crop = resize["crop"]
    cropped = functional.center_crop(resized, [crop, crop])
    corner = [round((side - crop) / 2.0) for side in resized.size]
    scale = (photo.width / resized.width, photo.height / resized.height)
    return Placed(cropped, photo.size, (-float(corner[0]), -float(corner[1])), scale)


def _letterbox(photo: Image.Image, size: tuple[int, int], how: Image.Resampling, color: tuple[int, ...]) -> Placed:
    factor = min(size[0] / photo.width, size[1] / photo.height)
    width, height = (max(1, round(side * factor)) for side in photo.size)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    boxed = Image.new("RGB", size, color)
    boxed.paste(photo.resize((width, height), how), (left, top))
    return Placed(boxed, photo.size, (float(left), float(top)), (photo.width / width, photo.height / height))
