"""Makes a model that keeps a large GPU busy: ConvNeXt-Large of torchvision, 224x224, seeded random weights.

    python3 tests/bench/heavy/export.py FOLDER [fp16|fp32]      then: tests/bench/run e2e --device cuda:0 --model FOLDER

In fp16 the cores of a machine decode about as fast as an H100 infers. In fp32 the GPU is the bottleneck.

Only for measurements of speed: its labels are meaningless. Needs torch 2.11 and torchvision.
"""

import json
import pathlib
import shutil
import sys

import torch
import torchvision

folder = pathlib.Path(sys.argv[1])
precision = sys.argv[2] if len(sys.argv) > 2 else "fp16"
kind = {"fp16": torch.half, "fp32": torch.float}[precision]
labels = pathlib.Path(__file__).parents[3] / "models/efficientnet-lite0/labels.txt"
device = "cuda" if torch.cuda.is_available() else "cpu"

torch.manual_seed(0)
network = torchvision.models.convnext_large().eval().to(device, kind)
image = torch.rand(2, 3, 224, 224, device=device, dtype=kind)
with torch.no_grad():
    module = torch.jit.trace(network, image.contiguous(memory_format=torch.channels_last))

folder.mkdir(parents=True, exist_ok=True)
module.to("cpu").save(str(folder / "model.pt"))
shutil.copy(labels, folder / "labels.txt")
manifest = {
    "name": "heavy",
    "task": "classify",
    "artifact": "model.pt",
    "input": {
        "width": 224,
        "height": 224,
        "resize": "center_crop",
        "crop_ratio": 0.875,
        "filter": "catmull_rom",
        "mean": [127, 127, 127],
        "std": [128, 128, 128],
    },
    "labels": "labels.txt",
    "output": {"activation": "softmax"},
    "precision": [precision],
    "batch_max": 64,
    "params": {"top_k": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 5}},
}
(folder / "model.json").write_text(json.dumps(manifest, indent=2))
