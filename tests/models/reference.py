"""What Python answers for a photo: the result that Darkroom should give, computed from the network and the manifest.

A reference is JSON, except that of `segment`: a gray picture of classes.
"""

from typing import Any

import numpy as np
import torch
from PIL import Image

from entry import Json
from preprocess import Placed


def expected(task: str, output: torch.Tensor, placed: Placed) -> Any:
    """The reference for one photo.

    `output` is what `Built.predict` gives for the photo:
    `classify`: a score for each class; `embed`: the values; `detect`: rows of x1, y1, x2, y2, score, class in pixels of the
    input; `segment`: the class of each pixel of the input.
    """
    if task in ("classify", "embed"):
        return [float(value) for value in output]
    if task == "detect":
        return [found for row in output.tolist() if (found := _on_photo(row, placed))]
    if task == "segment":
        return _drawn(output, placed)
    raise ValueError(f"the zoo has no reference for `{task}`")


def _on_photo(row: list[float], placed: Placed) -> Json | None:
    """A box in pixels of the photo, clipped to it. `None` if nothing of the box is on the photo."""
    width, height = placed.photo_size
    left, top = placed.to_photo(row[0], row[1])
    right, bottom = placed.to_photo(row[2], row[3])
    left, right = (min(max(x, 0.0), float(width)) for x in (left, right))
    top, bottom = (min(max(y, 0.0), float(height)) for y in (top, bottom))
    if right <= left or bottom <= top:
        return None
    return {"index": int(row[5]), "score": row[4], "x": left, "y": top, "width": right - left, "height": bottom - top}


def _drawn(classes: torch.Tensor, placed: Placed) -> Image.Image:
    """Each pixel of the photo gets the class of the cell that lies under its center."""
    width, height = placed.photo_size
    rows, columns = classes.shape
    across = [placed.to_input(x + 0.5, 0.5)[0] * columns / placed.pixels.width for x in range(width)]
    down = [placed.to_input(0.5, y + 0.5)[1] * rows / placed.pixels.height for y in range(height)]
    cells = classes.numpy().astype(np.uint8)
    return Image.fromarray(cells[np.array(down, int)[:, None], np.array(across, int)[None, :]])
