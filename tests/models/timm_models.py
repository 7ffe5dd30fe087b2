"""Models of timm."""

from pathlib import Path

import timm
import torch

from entry import IMAGENET_MEAN, IMAGENET_STD, Built, Entry, Json, Photos, best_labels, numbered_labels
from torchvision_classifiers import CLASSES, softmax_of
from weights import enlarge, fit_batch_norms, spread_head

HALF = [127.5, 127.5, 127.5]


def mobilenetv3(photos: Photos) -> Built:
    """Traced, as most people export models of timm."""
    network = timm.create_model("mobilenetv3_small_100", pretrained=False).eval()
    fit_batch_norms(network, lambda: network(photos))
    spread_head(network, network.classifier, photos)

    def export(path: Path) -> None:
        with torch.no_grad():
            torch.jit.trace(network, photos[:1]).save(str(path))

    return Built(network, export, softmax_of(network))


def beit(photos: Photos) -> Built:
    """A small BEiT without a head: its features. Scripted, with `relative_position_index`, an integer buffer."""
    size = {"embed_dim": 192, "depth": 6, "num_heads": 3, "num_classes": 0}
    network = timm.create_model("beit_base_patch16_224", pretrained=False, scriptable=True, **size).eval()
    enlarge(network, "relative_position_bias_table", 1.0)
    enlarge(network, "gamma_", 0.5)

    def export(path: Path) -> None:
        torch.jit.script(network).save(str(path))

    def predict(some: Photos) -> list[torch.Tensor]:
        with torch.no_grad():
            return [network(photo[None])[0] for photo in some]

    return Built(network, export, predict)


def input_of(shorter_side: int, mean: list[float], std: list[float]) -> Json:
    """`Resize(floor(224 / crop_pct), bicubic)` and `CenterCrop(224)`, as `timm.data.create_transform` makes them."""
    return {"resize": {"shorter_side": shorter_side, "crop": 224, "interpolation": "bicubic"}, "mean": mean, "std": std}


MOBILENETV3: Json = {
    "task": "classify",
    "input": input_of(256, IMAGENET_MEAN, IMAGENET_STD),
    "output": {"activation": "softmax"},
    "params": best_labels(CLASSES),
}
BEIT: Json = {
    "task": "embed",
    "input": input_of(248, HALF, HALF),
    "params": {"normalize": {"type": "boolean", "default": False}},
}

ENTRIES = [
    Entry("timm-mobilenetv3", MOBILENETV3, mobilenetv3, numbered_labels(CLASSES)),
    Entry("timm-beit", BEIT, beit),
]
