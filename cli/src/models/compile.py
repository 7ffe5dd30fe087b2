"""Compiles a model of torch.export ahead of time for some devices, checks the packages, and writes them into model.json.

`darkroom models compile DIR` runs this file. It needs Python with torch 2.11, and g++ or clang++. docs/models.md explains it.
"""

import argparse
import ctypes
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

TORCH = "2.11"  # of the workers: packed weights and the C interface of a package fit one release
FORMAT = 1  # of ABOUT; worker/src/torch/package.rs reads it
ABOUT = "extra/darkroom.json"
MODEL = "data/aotinductor/model/"  # where torch keeps the files of a package
DIFFERENCE_MAX = 1e-4  # largest difference to eager, as a part of the largest value
GOLDEN_IMAGES = 3
GOLDEN_VALUES = 256  # most values of one golden output
BATCHES = (1, 4, 8)  # of the timings
TURNS, TURN_SECONDS = 7, 0.6
# A target: the flag of the compiler, the vectors that torch writes, and the names by which torch and oneDNN know the CPU.
CPUS = {
    "cpu-avx2": ("x86-64-v3", "VecAVX2", "avx2", "AVX2"),
    "cpu-avx512": ("x86-64-v4", "VecAVX512", "avx512", "AVX512_CORE"),
}


def arguments():
    parser = argparse.ArgumentParser(prog="darkroom models compile", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--from", dest="source", type=Path)
    parser.add_argument("--target", action="append", default=[])
    parser.add_argument("--step", choices=["compile", "time"], help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    given = arguments()
    given.source = given.source or given.folder / "export.pt2"
    manifest = json.loads((given.folder / "model.json").read_text(encoding="utf-8-sig"))
    if given.step == "compile":
        return compile_one(given, manifest, given.target[0])
    if given.step == "time":
        return time_all(given, manifest)
    if not given.source.exists():
        stop(f"there is no {given.source}: write it with torch.export.save, or name a file by --from")
    check_torch()
    check_manifest(manifest)
    targets = given.target or own_cpus()
    for target in targets:
        check_target(target)
    for target in targets:
        print(f"==> {target}: compiling", flush=True)
        run_step(given, "compile", [target], limits(target))
    # From here on with all that this CPU has, as in a worker.
    run_step(given, "time", targets, {})
    write_manifest(given.folder / "model.json", {target: package_name(target) for target in targets})
    print(f"{given.folder / 'model.json'} names the packages in `artifacts`")


def stop(text):
    sys.exit(f"error: {text}")


def run_step(given, step, targets, limits):
    """Runs a step in a process of its own: torch and oneDNN read their environment once."""
    command = [sys.executable, __file__, str(given.folder), "--from", str(given.source), "--step", step]
    command += [f"--target={target}" for target in targets]
    if subprocess.run(command, env={**os.environ, **limits, "OMP_NUM_THREADS": "1"}).returncode != 0:
        sys.exit(1)


def check_torch():
    try:
        import torch
    except ModuleNotFoundError:
        stop(f"{sys.executable} has no torch: python3 -m venv venv && venv/bin/pip install torch=={TORCH}.0, "
             "then --python venv/bin/python")
    if not torch.__version__.startswith(TORCH + "."):
        stop(f"this is torch {torch.__version__}; workers have {TORCH}: pip install torch=={TORCH}.0")


def check_manifest(manifest):
    if manifest.get("input", {}).get("form", "batch") != "batch":
        stop("`input.form` is not `batch`: only models that take one tensor can be compiled")


def own_cpus():
    return [target for target in CPUS if has_cpu(target)] or stop("this CPU has no AVX2: name a --target")


def has_cpu(target):
    flags = set(re.findall(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.M)[:1][0].split())
    wanted = {"cpu-avx2": {"avx2", "fma", "f16c", "bmi1", "bmi2", "movbe"},
              "cpu-avx512": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}}
    return wanted["cpu-avx2"] <= flags and wanted[target] <= flags


def check_target(target):
    import torch
    if target in CPUS:
        if not has_cpu(target):
            stop(f"{target}: this CPU could not check the package; run this command on a CPU that has the instructions")
    elif re.fullmatch(r"cuda-sm\d+", target):
        if not torch.cuda.is_available():
            stop(f"{target}: there is no GPU here")
        own = "cuda-sm{}{}".format(*torch.cuda.get_device_capability())
        if target != own:
            stop(f"{target}: the GPU here makes {own}")
    else:
        stop(f"{target}: a target is one of {', '.join(CPUS)}, cuda-smNN")


def limits(target):
    """The environment in which torch and oneDNN take this CPU for the target's."""
    if target not in CPUS:
        return {}
    _, _, capability, isa = CPUS[target]
    return {"ATEN_CPU_CAPABILITY": capability, "ONEDNN_MAX_CPU_ISA": isa}


def package_name(target):
    return f"{target}.pt2"


def load_source(path):
    """The module of `torch.export.save`, or what `model()` of a Python file returns."""
    import torch
    if path.suffix == ".py":
        spec = importlib.util.spec_from_file_location("darkroom_model", path)
        module = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(path.parent.resolve()))
        spec.loader.exec_module(module)
        return module.model().eval()
    try:
        return torch.export.load(path).module()
    except Exception as error:  # many kinds: a zip of another kind, a state_dict, an operator that is unknown here
        stop(f"{path} is no file of torch.export.save: {error}")


def served(manifest, source):
    """The module that a worker calls: one tensor in, the tensor at `output.path` out."""
    import torch

    class Served(torch.nn.Module):
        def __init__(self, inner, method, path):
            super().__init__()
            self.inner, self.method, self.path = inner, method, path

        def forward(self, x):
            y = self.inner(x) if self.method == "forward" else getattr(self.inner, self.method)(x)
            for one in self.path:
                y = y[one]
            return y

    path = manifest.get("output", {}).get("path") or ""
    path = [int(one) if one.isdigit() else one for one in path.split(".") if one]
    method = manifest.get("method", "forward")
    inner = load_source(source)
    if method != "forward" and not hasattr(inner, method):
        stop(f"{source} has no method `{method}`: export the module whose `forward` does what `{method}` does")
    return Served(inner, method, path)


def pattern(manifest, number):
    """Golden image `number`, `u8[height, width, 3]`; worker/src/torch/golden.rs makes the same one."""
    import torch
    height, width = input_size(manifest)
    at = torch.arange(height * width * 3, dtype=torch.int64)
    return ((at * (31 + 2 * number) + 17 * number) % 251).view(height, width, 3).to(torch.uint8)


def input_size(manifest):
    spec = manifest["input"]
    resize = spec.get("resize")
    crop = resize.get("crop") if isinstance(resize, dict) else None
    return spec.get("height", crop), spec.get("width", crop)


def input_of(manifest, images):
    """What a worker makes of pixels `u8[n, height, width, 3]`: floats `[n, 3, height, width]` in channels-last storage."""
    import torch
    mean, std = (torch.tensor(manifest["input"][name], dtype=torch.float32).view(1, 3, 1, 1) for name in ("mean", "std"))
    return (images.permute(0, 3, 1, 2).float() - mean) / std


def golden(manifest, module):
    import torch
    images = torch.stack([pattern(manifest, number) for number in range(GOLDEN_IMAGES)])
    with torch.no_grad():
        rows = torch.cat([module(input_of(manifest, image[None])) for image in images])
    flat = rows.flatten(1)
    at = torch.linspace(0, flat.shape[1] - 1, min(GOLDEN_VALUES, flat.shape[1])).round().long()
    return {"shape": list(rows.shape[1:]), "at": at.tolist(), "values": flat[:, at].tolist()}


def tune_compiler(target):
    """Compiles for the target instead of for this machine, without the names of this machine's folders."""
    import torch._inductor.cpp_builder as builder
    import torch._inductor.cpu_vec_isa as isas
    march, vectors, _, _ = CPUS[target]
    own_flags = builder._get_optimization_cflags
    folders = [Path(builder.__file__).parents[2], Path(tempfile.gettempdir())]

    def flags(*args, **kwargs):
        cflags, ldflags = own_flags(*args, **kwargs)
        cflags = [f"march={march}" if flag == "march=native" else flag for flag in cflags]
        cflags += [f"ffile-prefix-map={folder}=." for folder in folders]
        return cflags, [*ldflags, "s"]

    builder._get_optimization_cflags = flags
    isa = getattr(isas, vectors)()
    isa.build_arch_flags = lambda: isa._arch_flags  # without bf16 instructions, which `march` does not have
    isas.valid_vec_isa_list = lambda: [isa]


def compile_one(given, manifest, target):
    import torch
    torch.set_num_threads(1)
    device = "cuda" if target.startswith("cuda") else "cpu"
    module = served(manifest, given.source).to(device)
    batch_max = manifest.get("batch_max", 1)
    options = {"freezing": True, "max_autotune": False, "aot_inductor.link_libtorch": False}
    if device == "cpu":
        tune_compiler(target)
        options["cpp.threads"] = 1  # a worker runs one thread for each core
    height, width = input_size(manifest)
    images = torch.randint(0, 256, (min(4, batch_max), height, width, 3), dtype=torch.uint8, device=device)
    example = input_of(manifest, images.cpu()).to(device)
    shapes = ({0: torch.export.Dim("batch", min=1, max=batch_max)} if batch_max > 1 else {},)
    with torch.no_grad(), tempfile.TemporaryDirectory() as scratch:
        exported = torch.export.export(module, (example,), dynamic_shapes=shapes)
        draft = torch._inductor.aoti_compile_and_package(
            exported, package_path=str(Path(scratch) / "model.pt2"), inductor_configs=options)
        about = {
            "format": FORMAT, "torch": TORCH, "target": target, "method": manifest.get("method", "forward"),
            "batch_max": batch_max, "golden": golden(manifest, served(manifest, given.source)),
        }
        made = given.folder / package_name(target)
        repack(draft, made, about)
        difference = largest_difference(manifest, given.source, made, device)
    print(f"==> {target}: {made.stat().st_size:,} bytes, differs from eager by {difference:.1e} of the largest value")
    if not difference <= DIFFERENCE_MAX:
        made.unlink()
        stop(f"{target}: that is more than {DIFFERENCE_MAX}")


def repack(draft, made, about):
    """Keeps the compiled files only. The sources would name folders of this machine."""
    with zipfile.ZipFile(draft) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as new:
        [library] = [name for name in old.namelist() if name.endswith(".so")]
        metadata = library.removesuffix(".so") + "_metadata.json"
        kept = {metadata: "model_metadata.json", library: "model.so"}
        kept |= {name: name.rsplit("/", 1)[1] for name in old.namelist() if name.endswith((".cubin", ".fatbin"))}
        write = lambda name, data: new.writestr(zipfile.ZipInfo(f"model/{name}"), data, zipfile.ZIP_DEFLATED)
        write("archive_format", "pt2")
        write("archive_version", "0")
        write(".data/version", "3\n")
        for name, short in kept.items():
            write(MODEL + short, old.read(name))
        write(MODEL + "model.cpp", "\n")  # torch finds the metadata by the name of the source
        write(ABOUT, json.dumps(about))


def load_package(path):
    import torch
    import torch._inductor
    folder = Path(torch.__file__).parent / "lib"
    for library in ("libtorch_cpu.so", "libtorch_cuda.so"):
        # A package finds libtorch in its process: that of a worker has another folder.
        if (folder / library).exists():
            ctypes.CDLL(str(folder / library), mode=ctypes.RTLD_GLOBAL)
    loader = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1)
    return lambda x: loader.run([x])[0]


def largest_difference(manifest, source, made, device):
    """The largest difference between the package and eager, as a part of the largest value, over several batch sizes."""
    import torch
    eager, compiled = served(manifest, source), load_package(made)
    height, width = input_size(manifest)
    batch_max = manifest.get("batch_max", 1)
    worst = 0.0
    with torch.no_grad():
        for images in sorted({1, 2, 3, 8, batch_max}):
            if images > min(batch_max, 16):
                continue
            pixels = torch.randint(0, 256, (images, height, width, 3), dtype=torch.uint8)
            x = input_of(manifest, pixels)
            expected, found = eager(x), compiled(x.to(device)).cpu()
            if found.shape != expected.shape:
                stop(f"{images} images give {list(found.shape)} instead of {list(expected.shape)}")
            worst = max(worst, ((found - expected).abs().max() / expected.abs().max()).item())
    return worst


def time_all(given, manifest):
    """Prints milliseconds an image on one thread: eager, TorchScript and the packages by turns, medians."""
    import torch
    torch.set_num_threads(1)
    device = "cuda" if all(target.startswith("cuda") for target in given.target) else "cpu"
    candidates = {"eager": served(manifest, given.source).to(device)}
    script = given.folder / manifest["artifact"]
    if script.suffix != ".pt2" and script.exists():
        module = torch.jit.load(script, map_location=device).eval()
        method = manifest.get("method", "forward")
        torch._C._jit_set_profiling_executor(False)
        frozen = torch.jit.freeze(module, preserved_attrs=[] if method == "forward" else [method])
        frozen = torch.jit.optimize_for_inference(frozen, [] if method == "forward" else [method])
        candidates["TorchScript"] = getattr(frozen, method)
    candidates |= {target: load_package(given.folder / package_name(target)) for target in given.target}
    height, width = input_size(manifest)
    batches = [images for images in BATCHES if images <= manifest.get("batch_max", 1)]
    print("\n" + "ms an image".ljust(16) + "".join(f"batch {images}".rjust(12) for images in batches))
    rows = {name: [] for name in candidates}
    for images in batches:
        x = input_of(manifest, torch.randint(0, 256, (images, height, width, 3), dtype=torch.uint8)).to(device)
        for name, each in medians(candidates, x).items():
            rows[name].append(each / images * 1e3)
    for name, row in rows.items():
        print(name.ljust(16) + "".join(f"{each:.2f}".rjust(12) for each in row))
    print()


def medians(candidates, x):
    import torch
    taken = {name: [] for name in candidates}
    with torch.no_grad():
        for run in candidates.values():
            run(x), run(x), run(x)
        for _ in range(TURNS):
            for name, run in candidates.items():
                began, passes = time.perf_counter(), 0
                while passes == 0 or time.perf_counter() - began < TURN_SECONDS:
                    run(x)
                    if x.is_cuda:
                        torch.cuda.synchronize()
                    passes += 1
                taken[name].append((time.perf_counter() - began) / passes)
    return {name: statistics.median(each) for name, each in taken.items()}


def write_manifest(path, packages):
    """Writes `artifacts` below `artifact`, and leaves the rest of the text as it is."""
    text = path.read_text(encoding="utf-8-sig")
    known = json.loads(text)
    known["artifacts"] = known.get("artifacts", {}) | packages
    line = f'"artifacts": {json.dumps(known["artifacts"])}'
    edited, edits = re.subn(r'"artifacts"\s*:\s*\{[^{}]*\}', lambda _: line, text, count=1)
    if edits == 0:
        edited = re.sub(r'("artifact"\s*:\s*"[^"]*"\s*,)(\s*)', lambda found: f"{found[1]}{found[2]}{line},{found[2]}",
                        text, count=1)
    try:
        is_edited = json.loads(edited) == known
    except ValueError:
        is_edited = False
    path.write_text(edited if is_edited else json.dumps(known, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
