"""Writes the model folders of the zoo, with the answers of Python beside them.

    python make.py FOLDER [NAME…]

A folder of a model has `model.json`, `model.pt`, `labels.txt`, and `reference/`: the answers, and photos of the input's size.
Seeded: a second run writes equal weights.
"""

import hashlib
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import timm_models
import torchvision_classifiers
import torchvision_dense
import yolo
from compare import differences, worst
from entry import Entry, Json
from mixing import MIXERS
from preprocess import Placed, normalize, of_the_size, place
from reference import expected
from wrong_files import WRONG_FILES, write_folder

HERE = Path(__file__).parent
PHOTOS = HERE.parent / "fixtures/photos"
SEED = 0
# A photo of this set has the size that the resize makes, so that only the model can be the cause of a difference.
EQUAL_PIXELS = "equal pixels"
WHOLE_PHOTOS = "photos"
EQUAL_PHOTOS = 3
# A filter that is nearly right. `check.py` wants tolerances that notice it.
OTHER_FILTER = {"bilinear": "bicubic", "bicubic": "bilinear"}

ENTRIES = torchvision_classifiers.ENTRIES + torchvision_dense.ENTRIES + timm_models.ENTRIES + yolo.ENTRIES


def photos() -> dict[str, Image.Image]:
    """The JPEGs of the fixtures, by their names."""
    return {path.name: Image.open(path).convert("RGB") for path in sorted(PHOTOS.glob("*.jpg"))}


def write_model(entry: Entry, folder: Path) -> Callable[[dict[str, Placed]], dict[str, Any]]:
    """Writes manifest, labels and artifact. Returns the function that computes references."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = entry.whole_manifest()
    (folder / "model.json").write_text(json.dumps(manifest, indent=2) + "\n")
    if entry.labels:
        (folder / "labels.txt").write_text("\n".join(entry.labels) + "\n")
    spec = manifest["input"]
    torch.manual_seed(SEED)
    built = entry.build(torch.stack([normalize(place(photo, spec), spec) for photo in photos().values()]))

    def references(placed: dict[str, Placed]) -> dict[str, Any]:
        outputs = built.predict(torch.stack([normalize(one, spec) for one in placed.values()]))
        pairs = zip(placed.items(), outputs)
        return {name: expected(manifest["task"], output, one) for (name, one), output in pairs}

    built.export(folder / "model.pt")
    return references


def write_references(entry: Entry, folder: Path) -> None:
    """Writes a model with its references, and how far the answers with another filter are from these."""
    references = write_model(entry, folder)
    manifest = entry.whole_manifest()
    spec, task = manifest["input"], manifest["task"]
    answers = folder / "reference"
    answers.mkdir(exist_ok=True)
    small = {f"{Path(name).stem}.png": of_the_size(photo, spec) for name, photo in list(photos().items())[:EQUAL_PHOTOS]}
    for name, photo in small.items():
        photo.save(answers / name)
    wanted = {
        EQUAL_PIXELS: references({name: place(photo, spec) for name, photo in small.items()}),
        WHOLE_PHOTOS: references({name: place(photo, spec) for name, photo in photos().items()}),
    }
    wrong = references({name: place(photo, with_other_filter(spec)) for name, photo in photos().items()})
    pairs = ((wanted[WHOLE_PHOTOS][name], as_result(task, answer)) for name, answer in wrong.items())
    other = worst(differences(task, right, answer, entry.score_min) for right, answer in pairs)
    for photo_set in wanted.values():
        for name, answer in photo_set.items():
            if isinstance(answer, Image.Image):
                answer.save(answers / f"{name}.mask.png")
                photo_set[name] = f"{name}.mask.png"
    document = {"task": task, "score_min": entry.score_min, "other_filter": other, "sets": wanted}
    (answers / "reference.json").write_text(json.dumps(document))


def write_mixer(entry: Entry, folder: Path) -> None:
    """Writes a model that mixes photos. Its references are the answers for each photo alone."""
    references = write_model(entry, folder)
    spec = entry.whole_manifest()["input"]
    answers = references({name: place(photo, spec) for name, photo in photos().items()})
    (folder / "reference").mkdir(exist_ok=True)
    document = {"task": entry.manifest["task"], "score_min": entry.score_min, "sets": {WHOLE_PHOTOS: answers}}
    (folder / "reference" / "reference.json").write_text(json.dumps(document))


def with_other_filter(spec: Json) -> Json:
    """The input of a manifest with another filter."""
    if isinstance(spec["resize"], dict):
        resize = spec["resize"]
        return spec | {"resize": resize | {"interpolation": OTHER_FILTER[resize["interpolation"]]}}
    return spec | {"filter": OTHER_FILTER[spec["filter"]]}


def as_result(task: str, reference: Any) -> Any:
    """A reference in the form of a job's result."""
    if task == "classify":
        return {"labels": [{"index": index, "score": score} for index, score in enumerate(reference)]}
    if task == "embed":
        return {"embedding": reference}
    if task == "detect":
        return {"boxes": reference}
    return reference


def stamp_of(name: str) -> str:
    """Changes with this code and with the packages that write models."""
    digest = hashlib.sha256(name.encode())
    for path in [*sorted(HERE.glob("*.py")), HERE / "requirements.txt"]:
        digest.update(path.read_bytes())
    for package in ("torch", "torchvision", "timm", "ultralytics", "pillow"):
        digest.update(importlib.metadata.version(package).encode())
    return digest.hexdigest()


def catalog() -> Json:
    """What `check.py` needs to know without the packages that make models."""
    return {
        "models": [entry.name for entry in ENTRIES],
        "mixers": [{"name": one.entry.name, "wanted": one.wanted, "reason": one.reason} for one in MIXERS],
        "wrong": [{"name": one.name, "kind": one.kind} for one in WRONG_FILES],
    }


def main() -> None:
    target, chosen = Path(sys.argv[1]), set(sys.argv[2:])
    if "wrong" in chosen:
        chosen.add(ENTRIES[0].name)  # the model that the wrong folders name

    def write(name: str, work: Callable[[Path], None]) -> None:
        """Does the work for a folder, unless an earlier run has done it with this code."""
        folder = target / name
        stamp = folder / "stamp"
        if (chosen and name.split("/")[0] not in chosen) or (stamp.exists() and stamp.read_text() == stamp_of(name)):
            return
        began = time.monotonic()
        work(folder)
        stamp.write_text(stamp_of(name))
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)

    target.mkdir(parents=True, exist_ok=True)
    (target / "catalog.json").write_text(json.dumps(catalog(), indent=1) + "\n")
    for entry in ENTRIES:
        write(entry.name, lambda folder, entry=entry: write_references(entry, folder))
    for mixer in MIXERS:
        write(mixer.entry.name, lambda folder, mixer=mixer: write_mixer(mixer.entry, folder))
    for wrong in WRONG_FILES:
        write(f"wrong/{wrong.name}", lambda folder, wrong=wrong: write_folder(wrong, folder, ENTRIES[0].name))


if __name__ == "__main__":
    main()
