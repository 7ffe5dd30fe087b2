"""Models of torchvision that answer with a dict or with a tuple: segmentation and detection, scripted."""

from collections.abc import Callable

import torch
from torch import nn
from torchvision import models

from entry import IMAGENET_MEAN, IMAGENET_STD, Built, Entry, Json, Photos, box_params, numbered_labels
from torchvision_classifiers import save_scripted
from weights import fit_batch_norms, spread_outputs

NO_WEIGHTS = {"weights": None, "weights_backbone": None}
SCORE_MIN = 0.5
# These networks answer place by place. So they need more calm than classifiers, which average over all places.
NORM_BIAS = 4.0


def deeplabv3(photos: Photos) -> Built:
    """Answers `{"out": scores}`."""
    network = models.get_model("deeplabv3_mobilenet_v3_large", **NO_WEIGHTS).eval()
    fit_batch_norms(network, lambda: network(photos), NORM_BIAS)
    spread_outputs(network.classifier[4], lambda: network(photos), 0.0, 3.0)

    def predict(some: Photos) -> list[torch.Tensor]:
        with torch.no_grad():
            return [network(photo[None])["out"][0].argmax(0) for photo in some]

    return Built(network, save_scripted(network), predict)


def faster_rcnn(photos: Photos) -> Built:
    """Takes a list of photos. As TorchScript it answers `(losses, [{"boxes", "scores", "labels"}, …])`."""
    network = models.get_model("fasterrcnn_mobilenet_v3_large_320_fpn", **NO_WEIGHTS).eval()

    def run() -> None:
        network(list(photos))

    fit_batch_norms(network, run, NORM_BIAS)
    spread_outputs(network.rpn.head.cls_logits, run, 0.0, 2.0)
    spread_outputs(network.rpn.head.bbox_pred, run, 0.0, 0.2)
    spread_outputs(network.roi_heads.box_predictor.cls_score, run, 0.0, 2.8)
    spread_outputs(network.roi_heads.box_predictor.bbox_pred, run, 0.0, 1.0)
    return Built(network, save_scripted(network), boxes_of(network))


def ssdlite(photos: Photos) -> Built:
    """Takes a list of photos. As TorchScript it answers `(losses, [{"boxes", "scores", "labels"}, …])`."""
    network = models.get_model("ssdlite320_mobilenet_v3_large", **NO_WEIGHTS).eval()

    def run() -> None:
        network(list(photos))

    fit_batch_norms(network, run, NORM_BIAS)
    for level in network.head.classification_head.module_list:
        spread_outputs(level[-1], run, 0.0, 1.6)
    for level in network.head.regression_head.module_list:
        spread_outputs(level[-1], run, 0.0, 1.0)
    return Built(network, save_scripted(network), boxes_of(network))


def boxes_of(network: nn.Module) -> Callable[[Photos], list[torch.Tensor]]:
    """The boxes of each photo: rows of x1, y1, x2, y2, score, class."""

    def predict(photos: Photos) -> list[torch.Tensor]:
        with torch.no_grad():
            answers = [network([photo])[0] for photo in photos]
        columns = [(one["boxes"], one["scores"][:, None], one["labels"][:, None].float()) for one in answers]
        rows = [torch.cat(each, 1) for each in columns]
        return [each[each[:, 4] >= SCORE_MIN] for each in rows]

    return predict


def detector(resize: Json) -> Json:
    """The manifest of a detector of torchvision, which normalizes by itself."""
    boxes = {"fields": ["boxes", "scores", "labels"], "columns": ["x1", "y1", "x2", "y2", "score", "class"]}
    scale = {"mean": [0, 0, 0], "std": [255, 255, 255]}
    return {
        "task": "detect",
        "input": {"form": "list", "width": 320, "height": 320, "filter": "bilinear"} | resize | scale,
        "output": {"path": "1", "boxes": boxes},
        "params": box_params(SCORE_MIN),
    }


DEEPLAB: Json = {
    "task": "segment",
    "input": {
        "width": 520,
        "height": 520,
        "resize": "stretch",
        "filter": "bilinear",
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
    },
    "output": {"path": "out", "mask": "class_scores"},
}

FASTER_RCNN = detector({"resize": "letterbox", "pad_color": [0, 0, 0]})
SSDLITE = detector({"resize": "stretch"})
LABELS = numbered_labels(91)

ENTRIES = [
    Entry("deeplabv3-mobilenet", DEEPLAB, deeplabv3, numbered_labels(21)),
    Entry("fasterrcnn-mobilenet", FASTER_RCNN, faster_rcnn, LABELS, score_min=SCORE_MIN),
    Entry("ssdlite", SSDLITE, ssdlite, LABELS, score_min=SCORE_MIN),
]
