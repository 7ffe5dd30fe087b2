"""How far a result of Darkroom is from its reference. A measure is a name and a number; 0 means equal."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

from entry import Json

# Two boxes of a class are one detection if they share at least this part of their union. Suppression keeps one of two boxes that
# overlap by 0.5 to 0.7; which one it keeps can be noise, so the other one must not count as its partner.
OVERLAP_MIN = 0.8
# The share of boxes that have no partner counts only boxes that lead the threshold by this much: a smaller lead may be noise.
LEAD_MIN = 0.05


def differences(task: str, wanted: Any, got: Any, threshold: float = 0.0) -> dict[str, float]:
    """The measures of one photo. `got` is the `result` of a job, or its mask; `wanted` is of `reference.py`."""
    if task == "classify":
        scores = {one["index"]: one["score"] for one in got["labels"]}
        return {"score": max(abs(scores[index] - score) for index, score in enumerate(wanted))}
    if task == "embed":
        return {"value": _largest(np.array(wanted), np.array(got["embedding"]))}
    if task == "detect":
        return _boxes(wanted, got["boxes"], threshold)
    if task == "segment":
        return {"pixels": _pixels(np.asarray(wanted), np.asarray(got))}
    raise ValueError(f"the zoo compares no `{task}`")


def worst(measures: Iterable[dict[str, float]]) -> dict[str, float]:
    """The largest value of each measure."""
    largest: dict[str, float] = {}
    for one in measures:
        for name, value in one.items():
            largest[name] = max(largest.get(name, 0.0), value)
    return largest


def _largest(wanted: np.ndarray, got: np.ndarray) -> float:
    """The largest difference, as a part of the largest value."""
    if wanted.shape != got.shape:
        raise ValueError(f"{got.shape} values instead of {wanted.shape}")
    return float(np.abs(wanted - got).max() / np.abs(wanted).max())


def _pixels(wanted: np.ndarray, got: np.ndarray) -> float:
    """The share of pixels that have another class."""
    if wanted.shape != got.shape:
        raise ValueError(f"a mask of {got.shape} instead of {wanted.shape}")
    return float((wanted != got).mean())


def _boxes(wanted: list[Json], got: list[Json], threshold: float) -> dict[str, float]:
    """`score`: of boxes with a partner. `place`: the largest distance of a side, in pixels of the photo. `boxes`: the share of
    boxes without a partner on the other side."""
    score, place, left = 0.0, 0.0, list(got)
    alone = 0
    for box in sorted(wanted, key=lambda one: -one["score"]):
        partner = max(left, key=lambda other: _overlap(box, other), default=None)
        if partner is None or _overlap(box, partner) < OVERLAP_MIN:
            alone += box["score"] >= threshold + LEAD_MIN
            continue
        left.remove(partner)
        score = max(score, abs(box["score"] - partner["score"]))
        place = max(place, *(abs(a - b) for a, b in zip(_corners(box), _corners(partner))))
    alone += sum(box["score"] >= threshold + LEAD_MIN for box in left)
    return {"score": score, "place": place, "boxes": alone / max(1, len(wanted), len(got))}


def _corners(box: Json) -> tuple[float, float, float, float]:
    return box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]


def _overlap(one: Json, other: Json) -> float:
    """The shared part of the union; 0 for boxes of two classes."""
    if one["index"] != other["index"]:
        return 0.0
    (a, b, c, d), (e, f, g, h) = _corners(one), _corners(other)
    shared = max(0.0, min(c, g) - max(a, e)) * max(0.0, min(d, h) - max(b, f))
    union = (c - a) * (d - b) + (g - e) * (h - f) - shared
    return shared / union if union > 0 else 0.0
