"""What the manifest's `input` means, in Pillow: the reference that the worker's preprocessing is compared with.

Upright RGB8 (EXIF applied, alpha blended on white, 16 bit taken by its high byte), then the centred square of side
`crop_ratio * min(width, height)`, not rounded to whole pixels, resized with Catmull-Rom to 224×224, rounded to u8,
then `(x - mean) / std`.
"""

import numpy as np
import torch
from PIL import Image, ImageOps

SIDE_PX, CROP_RATIO, MEAN, STD = 224, 0.875, 127.0, 128.0


def upright_rgb(image: Image.Image) -> Image.Image:
    image.seek(0) if getattr(image, "is_animated", False) else None
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit gray; Pillow would clip instead of scaling
        gray = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
        return Image.fromarray(gray).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def cropped_u8(image: Image.Image) -> Image.Image:
    image = upright_rgb(image)
    side = CROP_RATIO * min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC, box=box)


def pixels_of(image: Image.Image) -> torch.Tensor:
    pixels = torch.from_numpy(np.asarray(cropped_u8(image)).astype(np.float32))
    return ((pixels - MEAN) / STD).permute(2, 0, 1).contiguous()
