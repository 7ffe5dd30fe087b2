"""`python decode.py FOLDER SECONDS`: decodes and preprocesses the JPEGs of a folder with Pillow's fastest method, `draft`, for
so many seconds. Prints the CPU milliseconds per photo. Crop and filter are those of `models/efficientnet-lite0/model.json`."""

import io
import math
import sys
import time
from pathlib import Path

from PIL import Image

SIDE = 224
CROP_RATIO = 0.875
photos = [path.read_bytes() for path in sorted(Path(sys.argv[1]).glob("*.jpg"))]
seconds = float(sys.argv[2])


def decode(photo: bytes) -> bytes:
    image = Image.open(io.BytesIO(photo))
    least = math.ceil(SIDE / CROP_RATIO)
    # `draft` takes the smallest DCT scale at which the shorter side keeps `least` pixels.
    factor = min(image.size) / least
    image.draft("RGB", (int(image.width / factor), int(image.height / factor)))
    crop = CROP_RATIO * min(image.size)
    left, top = (image.width - crop) / 2, (image.height - crop) / 2
    box = (left, top, left + crop, top + crop)
    return image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box).tobytes()


for photo in photos:
    decode(photo)
count, began = 0, time.process_time()
while time.process_time() - began < seconds:
    decode(photos[count % len(photos)])
    count += 1
print((time.process_time() - began) * 1e3 / count)
