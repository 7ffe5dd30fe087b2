"""What this folder knows about one model: how Python makes it, and the manifest by which Darkroom serves it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

Json = dict[str, Any]
# Photos as the input of the model: `f32[n, 3, height, width]`, normalized as the manifest says.
Photos = torch.Tensor

IMAGENET_MEAN = [123.675, 116.28, 103.53]
IMAGENET_STD = [58.395, 57.12, 57.375]


@dataclass(frozen=True)
class Built:
    """A network with seeded weights, and its TorchScript. Both give one answer."""

    network: torch.nn.Module
    export: Callable[[Path], None]
    # From a batch of photos to one output for each photo, as `reference.py` takes it. Runs in Python, never in TorchScript.
    predict: Callable[[Photos], list[Any]]


@dataclass(frozen=True)
class Entry:
    """A model of the zoo."""

    name: str
    manifest: Json
    # Gets the photos that the weights are fitted to.
    build: Callable[[Photos], Built]
    labels: list[str] = field(default_factory=list)
    # The highest `batch_max` that the exported file can keep.
    batch_max: int = 8
    # Of a detector: the lowest score of a box, the default of the parameter `threshold`.
    score_min: float = 0.0

    def whole_manifest(self) -> Json:
        """The manifest with the fields that all models of the zoo share."""
        whole: Json = {"name": self.name, "artifact": "model.pt"} | self.manifest
        if self.labels:
            whole["labels"] = "labels.txt"
        # Pillow decodes JPEGs at full size, and converts no colors.
        whole["input"] = self.manifest["input"] | {"full_decode": True, "color": "raw"}
        return whole | {"batch_max": self.batch_max, "source": "tests/models"}


def numbered_labels(classes: int) -> list[str]:
    """Random weights recognize nothing, so a label only says which class it is."""
    return [f"class {index}" for index in range(classes)]


def best_labels(classes: int) -> Json:
    """The parameter `top_k` of a classifier. The check asks for all classes."""
    return {"top_k": {"type": "integer", "minimum": 1, "maximum": classes, "default": 5}}


def box_params(threshold: float) -> Json:
    """The parameters of a detector."""
    return {
        "threshold": {"type": "number", "minimum": 0, "maximum": 1, "default": threshold},
        "max_boxes": {"type": "integer", "minimum": 1, "maximum": 300, "default": 300},
    }
