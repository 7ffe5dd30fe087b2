"""Models whose answer for a photo depends on the other photos of its forward batch. None of them may answer so through Darkroom.

Each is an ordinary mistake: a trace without `eval()`, or a statement over the wrong dimension.
"""

from dataclasses import dataclass, replace

import torch
from torch import nn
from torchvision import models

import yolo
from entry import IMAGENET_MEAN, IMAGENET_STD, Built, Entry, Json, Photos, best_labels, numbered_labels
from torchvision_classifiers import softmax_of
from weights import fit_batch_norms, spread_head

CLASSES = 10


@dataclass(frozen=True)
class Mixer:
    """A model that mixes photos, and what Darkroom has to do about it."""

    entry: Entry
    # `refused`: no job runs. `alone`: each photo has a forward pass of its own, and operators see a warning.
    wanted: str
    # A word that the reason or the warning has to contain.
    reason: str


class MinusMean(nn.Module):
    """Subtracts the mean over the batch instead of the mean over the features."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.network(x)
        return scores - 0.5 * scores.mean(0)


class FirstRow(nn.Module):
    """Gives all photos the context of the first one."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.network(x)
        return 0.5 * scores + 0.5 * scores[:1].expand_as(scores)


def small_network(photos: Photos) -> nn.Module:
    network = models.resnet18(num_classes=CLASSES).eval()
    fit_batch_norms(network, lambda: network(photos))
    spread_head(network, network.fc, photos)
    return network


def traced(network: nn.Module, photos: Photos) -> Built:
    """Traced as it is, in the mode that it is in."""
    with torch.no_grad():
        module = torch.jit.trace(network, photos[:2], check_trace=False)
    return Built(network, lambda path: module.save(str(path)), softmax_of(network))


def minus_mean(photos: Photos) -> Built:
    return traced(MinusMean(small_network(photos)).eval(), photos)


def first_row(photos: Photos) -> Built:
    return traced(FirstRow(small_network(photos)).eval(), photos)


def training_mode(photos: Photos) -> Built:
    """Batch norms take their statistics from the forward batch."""
    network = small_network(photos)
    return traced(network.train(), photos)


def dropout(photos: Photos) -> Built:
    """Other features are dropped at every call."""
    body = small_network(photos)
    head, body.fc = body.fc, nn.Identity()
    network = nn.Sequential(body, nn.Dropout(0.5), head).eval()
    network[1].train()
    return traced(network, photos)


MANIFEST: Json = {
    "task": "classify",
    "input": {
        "resize": {"shorter_side": 256, "crop": 224, "interpolation": "bilinear"},
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
    },
    "output": {"activation": "softmax"},
    "params": best_labels(CLASSES),
}
LABELS = numbered_labels(CLASSES)

MIXERS = [
    Mixer(Entry("traced-in-training-mode", MANIFEST, training_mode, LABELS), "refused", "training"),
    Mixer(Entry("dropout-in-training-mode", MANIFEST, dropout, LABELS), "refused", "training"),
    Mixer(Entry("minus-batch-mean", MANIFEST, minus_mean, LABELS), "alone", "depends on the other images"),
    Mixer(Entry("expand-from-row-0", MANIFEST, first_row, LABELS), "alone", "depends on the other images"),
    # An export with `nms=True` for one photo suppresses only the boxes of the first photo; the others get none.
    Mixer(replace(yolo.WITH_NMS, name="yolov8n-nms-for-one", batch_max=4), "alone", "depends on the other images"),
]
