"""YOLOv8n of ultralytics, from its architecture file, exported as its users do: with and without `nms=True`."""

import os
import shutil
import tempfile
from contextlib import chdir
from pathlib import Path
from typing import Any

# No settings in the home folder, no installation of packages, no network. Read when ultralytics is imported.
os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.gettempdir())
os.environ.setdefault("YOLO_AUTOINSTALL", "false")
os.environ.setdefault("YOLO_OFFLINE", "true")

import torch
from ultralytics import YOLO
from ultralytics.utils.nms import non_max_suppression

from entry import Built, Entry, Json, Photos, box_params, numbered_labels
from weights import fit_batch_norms, spread_outputs

SIDE_PX = 640
CLASSES = 80
SCORE_MIN = 0.25
IOU_MAX = 0.7
BOXES_MAX = 300


def without_nms(photos: Photos) -> Built:
    return built(photos, {})


def with_nms(photos: Photos) -> Built:
    return built(photos, {"nms": True, "conf": SCORE_MIN, "iou": IOU_MAX, "max_det": BOXES_MAX})


def with_nms_for_batches(photos: Photos) -> Built:
    """A trace repeats its suppression as often as the example had photos: `batch` says how often."""
    return built(photos, {"nms": True, "conf": SCORE_MIN, "iou": IOU_MAX, "max_det": BOXES_MAX, "dynamic": True, "batch": 4})


def built(photos: Photos, options: dict[str, Any]) -> Built:
    """YOLOv8n with fitted weights; `options` go to its export. Both exports have the reference of the plain network."""
    yolo = YOLO("yolov8n.yaml", verbose=False)
    network = yolo.model.eval()
    head = network.model[-1]

    def run() -> None:
        network(photos)

    fit_batch_norms(network, run)
    for level in head.cv2:  # the sides of the boxes
        spread_outputs(level[-1], run, 0.0, 1.5)
    for level in head.cv3:  # the scores
        spread_outputs(level[-1], run, -8.0, 1.7)

    def export(path: Path) -> None:
        path = path.resolve()  # it may be relative to the folder before `chdir`
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            shutil.move(yolo.export(format="torchscript", imgsz=SIDE_PX, **options), path)

    def predict(some: Photos) -> list[torch.Tensor]:
        with torch.no_grad():
            answers = [network(photo[None]) for photo in some]
        found = [non_max_suppression(answer, SCORE_MIN, IOU_MAX, max_det=BOXES_MAX) for answer in answers]
        return [rows[0][:, :6] for rows in found]

    return Built(network, export, predict)


def manifest(boxes: Json) -> Json:
    """Letterboxed on gray 114, scaled to 0–1."""
    letterbox = {"width": SIDE_PX, "height": SIDE_PX, "resize": "letterbox", "filter": "bilinear"}
    return {
        "task": "detect",
        "input": letterbox | {"mean": [0, 0, 0], "std": [255, 255, 255]},
        "output": {"boxes": boxes},
        "params": box_params(SCORE_MIN),
    }


LABELS = numbered_labels(CLASSES)
RAW_BOXES: Json = {
    "columns": ["center_x", "center_y", "width", "height", "class_scores"],
    "transposed": True,
    "nms_iou": IOU_MAX,
}
FINISHED_BOXES: Json = {"columns": ["x1", "y1", "x2", "y2", "score", "class"]}

WITH_NMS = Entry("yolov8n-nms", manifest(FINISHED_BOXES), with_nms, LABELS, batch_max=1, score_min=SCORE_MIN)

ENTRIES = [
    Entry("yolov8n", manifest(RAW_BOXES), without_nms, LABELS, batch_max=4, score_min=SCORE_MIN),
    WITH_NMS,
    Entry("yolov8n-nms-batches", manifest(FINISHED_BOXES), with_nms_for_batches, LABELS, batch_max=4, score_min=SCORE_MIN),
]
