"""Ten files that people push as a model and that no worker can run, written by the tools that people have them from."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torchvision import models

from entry import Json


@dataclass(frozen=True)
class WrongFile:
    """A wrong file, and a word that names its kind in the message."""

    name: str
    kind: str
    write: Callable[[Path], None]


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return models.mobilenet_v3_small(num_classes=10).eval()


def state_dict(path: Path) -> None:
    torch.save(network().state_dict(), path)


def checkpoint(path: Path) -> None:
    """As training scripts write it."""
    torch.save({"epoch": 12, "model": network().state_dict(), "best_acc1": 0.5}, path)


def pickled_module(path: Path) -> None:
    torch.save(network(), path)


def exported_program(path: Path) -> None:
    torch.export.save(torch.export.export(network(), (torch.rand(2, 3, 224, 224),)), path)


def safetensors(path: Path) -> None:
    """As the hub of timm has its weights."""
    small = timm.create_model("mobilenetv3_small_050", pretrained=False, num_classes=10)
    save_file(small.state_dict(), path)


def onnx(path: Path) -> None:
    torch.onnx.export(network(), (torch.rand(1, 3, 224, 224),), str(path), dynamo=False)


def lfs_pointer(path: Path) -> None:
    """What `git clone` leaves without Git LFS."""
    path.write_text(
        "version https://git-lfs.github.com/spec/v1\n"
        "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
        "size 104857600\n"
    )


def cut_off(path: Path) -> None:
    """A download that broke off."""
    torch.jit.script(network()).save(str(path))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def web_page(path: Path) -> None:
    """What a download gives without a login."""
    path.write_text("<!DOCTYPE html>\n<html>\n<head><title>Sign in</title></head>\n<body>Please sign in.</body>\n</html>\n")


WRONG_FILES = [
    WrongFile("state-dict.pt", "state_dict", state_dict),
    WrongFile("checkpoint.pt", "checkpoint", checkpoint),
    WrongFile("pickled-module.pt", "MobileNetV3", pickled_module),
    WrongFile("exported.pt2", "exported program", exported_program),
    WrongFile("weights.safetensors", "safetensors", safetensors),
    WrongFile("model.onnx", "ONNX", onnx),
    WrongFile("lfs-pointer.pt", "Git LFS", lfs_pointer),
    WrongFile("cut-off.pt", "cut off", cut_off),
    WrongFile("empty.pt", "empty", empty),
    WrongFile("web-page.pt", "web page", web_page),
]


def write_folder(wrong: WrongFile, folder: Path, model: str) -> None:
    """A folder that is right but for its artifact. `model`: the name of a model that is registered."""
    folder.mkdir(parents=True, exist_ok=True)
    wrong.write(folder / wrong.name)
    manifest: Json = {
        "name": model,
        "task": "raw",
        "artifact": wrong.name,
        "input": {"width": 224, "height": 224, "resize": "stretch", "mean": [0, 0, 0], "std": [255, 255, 255]},
    }
    (folder / "model.json").write_text(json.dumps(manifest, indent=2) + "\n")
