"""Classifiers of torchvision. All are scripted: the TorchScript keeps the buffers and branches of the network."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torchvision import models

from entry import IMAGENET_MEAN, IMAGENET_STD, Built, Entry, Json, Photos, best_labels, numbered_labels
from weights import enlarge, fit_batch_norms, spread_head

CLASSES = 1000


def manifest(shorter_side: int, interpolation: str) -> Json:
    """The manifest of an ImageNet classifier: `Resize`, `CenterCrop(224)`, and the usual mean and deviation."""
    resize = {"shorter_side": shorter_side, "crop": 224, "interpolation": interpolation}
    return {
        "task": "classify",
        "input": {"resize": resize, "mean": IMAGENET_MEAN, "std": IMAGENET_STD},
        "output": {"activation": "softmax"},
        "params": best_labels(CLASSES),
    }


def save_scripted(network: nn.Module) -> Callable[[Path], None]:
    """Exports by `torch.jit.script`."""
    return lambda path: torch.jit.script(network).save(str(path))


def softmax_of(network: nn.Module) -> Callable[[Photos], list[torch.Tensor]]:
    """The scores of each photo, one photo at a time."""

    def predict(photos: Photos) -> list[torch.Tensor]:
        with torch.no_grad():
            return [network(photo[None])[0].softmax(0) for photo in photos]

    return predict


def classifier(network: nn.Module) -> Built:
    """A finished classifier, scripted."""
    return Built(network, save_scripted(network), softmax_of(network))


def resnet50(photos: Photos) -> Built:
    network = models.resnet50().eval()
    fit_batch_norms(network, lambda: network(photos))
    spread_head(network, network.fc, photos)
    return classifier(network)


def swin_t(photos: Photos) -> Built:
    """With `relative_position_index`, an integer buffer. The tables that it reads get values that matter."""
    network = models.swin_t().eval()
    enlarge(network, "relative_position_bias_table", 1.0)
    spread_head(network, network.head, photos)
    return classifier(network)


def vit_b_16(photos: Photos) -> Built:
    network = models.vit_b_16().eval()
    spread_head(network, network.heads.head, photos)
    return classifier(network)


def convnext_tiny(photos: Photos) -> Built:
    """Its residual branches begin at a millionth of their size; here they count."""
    network = models.convnext_tiny().eval()
    enlarge(network, "layer_scale", 0.5)
    spread_head(network, network.classifier[2], photos)
    return classifier(network)


LABELS = numbered_labels(CLASSES)
# The resize of each is that of its weights in torchvision (`Weights.transforms()`).
ENTRIES = [
    Entry("resnet50", manifest(232, "bilinear"), resnet50, LABELS),
    Entry("swin-t", manifest(232, "bicubic"), swin_t, LABELS),
    Entry("vit-b-16", manifest(256, "bilinear"), vit_b_16, LABELS),
    Entry("convnext-tiny", manifest(236, "bilinear"), convnext_tiny, LABELS),
]
