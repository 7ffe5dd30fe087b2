"""Pushes the models of the zoo to a running stack, and compares the answers through REST with Python's.

    python check.py FOLDER [NAME…]        FOLDER is what make.py wrote

Prints a table; ends with 1 if a line is a miss. `README.md` explains the lines.
"""

import json
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image

from compare import differences, worst
from entry import Json
from service import Service, darkroom
from table import Row, print_table
from tolerances import Tolerances

HERE = Path(__file__).parent
PHOTOS = HERE.parent / "fixtures/photos"
THREADS = 12
# Requests of one photo among requests of other photos.
REPEATS = 30
NEIGHBORS = "neighbors"


class Zoo:
    """The folders of make.py and the stack."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.service = Service()
        self.tolerances = Tolerances.read(HERE / "tolerances.tsv")
        self.pool = ThreadPoolExecutor(THREADS)

    def reference(self, model: str) -> Json:
        return json.loads((self.folder / model / "reference/reference.json").read_text())

    def jobs(self, model: str, photos: Iterable[Path]) -> list[Json]:
        """One job for each photo, in their order."""
        manifest = json.loads((self.folder / model / "model.json").read_text())
        params = {"top_k": manifest["params"]["top_k"]["maximum"]} if manifest["task"] == "classify" else {}
        return list(self.pool.map(lambda photo: self.service.job(photo, model, params), photos))

    def photo(self, model: str, name: str) -> Path:
        """A photo of the fixtures, or a picture beside the references of a model."""
        own = self.folder / model / "reference" / name
        return own if own.exists() else PHOTOS / name


def push(zoo: Zoo, model: str) -> Row:
    """A worker has loaded the model when the push ends with 0."""
    code, said = darkroom("models", "push", str(zoo.folder / model), "--alias", "default")
    return Row.of_claim(model, "pushed and loaded", code == 0, said)


def compare(zoo: Zoo, model: str) -> list[Row]:
    """A line for each set of photos and each measure."""
    reference = zoo.reference(model)
    rows = []
    for photo_set, wanted in reference["sets"].items():
        jobs = zoo.jobs(model, (zoo.photo(model, name) for name in wanted))
        results = [zoo.service.result(job) for job in jobs]
        answers = [opened(zoo, model, answer) for answer in wanted.values()]
        pairs = zip(answers, results)
        largest = worst(differences(reference["task"], answer, result, reference["score_min"]) for answer, result in pairs)
        for measure, value in largest.items():
            tolerance = zoo.tolerances.of(model, photo_set, measure)
            rows.append(Row.of_number(model, f"{measure}, {photo_set}", tolerance, value))
    return rows


def opened(zoo: Zoo, model: str, answer: Any) -> Any:
    """The answer of a reference. That of a mask is the name of a picture."""
    return Image.open(zoo.folder / model / "reference" / answer) if isinstance(answer, str) else answer


def notices_another_filter(zoo: Zoo, model: str) -> Row:
    """A tolerance that a nearly right preprocessing keeps would show nothing."""
    other = zoo.reference(model)["other_filter"]
    noticed = [f"{measure} {value:.2g}" for measure, value in other.items() if value > zoo.tolerances.of(model, "photos", measure)]
    return Row.of_claim(model, "another filter would miss", bool(noticed), ", ".join(noticed) or str(other))


def neighbors(zoo: Zoo, model: str) -> list[Row]:
    """Thirty requests of one photo among as many of other photos give one answer."""
    task, score_min = zoo.reference(model)["task"], zoo.reference(model)["score_min"]
    first, *others = sorted(PHOTOS.glob("*.jpg"))
    order = [photo for turn in range(REPEATS) for photo in (first, others[turn % len(others)])]
    jobs = zoo.jobs(model, order)[::2]
    answers = [zoo.service.result(job) for job in jobs]
    wanted = as_reference(task, answers[0])
    largest = worst(differences(task, wanted, answer, score_min) for answer in answers[1:])
    sizes = sorted({job["batch"]["size"] for job in jobs})
    rows = [
        Row.of_number(model, f"{measure}, {NEIGHBORS}", zoo.tolerances.of(model, NEIGHBORS, measure), value, f"batches of {sizes}")
        for measure, value in largest.items()
    ]
    return rows


def as_reference(task: str, result: Any) -> Any:
    """A result in the form of a reference."""
    if task == "classify":
        return [one["score"] for one in sorted(result["labels"], key=lambda one: one["index"])]
    return result if task == "segment" else result[{"embed": "embedding", "detect": "boxes"}[task]]


def no_warning(zoo: Zoo, model: str) -> Row:
    """Workers have nothing to say about a model that is right."""
    warning = zoo.service.warning(model)
    return Row.of_claim(model, "no warning", not warning, warning)


def check_model(zoo: Zoo, model: str) -> list[Row]:
    """All lines of a model that Python runs rightly."""
    pushed = push(zoo, model)
    if not pushed.is_kept:
        return [pushed]
    return [pushed, *compare(zoo, model), notices_another_filter(zoo, model), *neighbors(zoo, model), no_warning(zoo, model)]


def check_mixer(zoo: Zoo, model: str, wanted: str, reason: str) -> list[Row]:
    """A model whose answers depend on neighbors is refused, or runs alone with a warning."""
    code, said = darkroom("models", "push", str(zoo.folder / model), "--alias", "default")
    if wanted == "refused":
        state = zoo.service.version_state(model)
        is_refused = code != 0 and state["state"] == "rejected" and not state["aliases"]
        cause = state.get("state_cause") or ""
        return [Row.of_claim(model, "refused by name", is_refused and reason in cause and reason in said, cause or said)]
    if code != 0:
        return [Row.of_claim(model, "pushed and loaded", False, said)]
    rows = [*compare(zoo, model), *neighbors(zoo, model)]
    warning = zoo.service.warning(model)
    return [*rows, Row.of_claim(model, "runs alone by name", reason in warning, warning)]


def check_wrong_file(zoo: Zoo, folder: Path, kind: str, registered: str) -> list[Row]:
    """A check and a push name the kind of the file. Nothing is registered, and no alias moves."""
    before = zoo.service.aliases(registered)
    rows = []
    for command in (["models", "check"], ["models", "push", "--alias", "default"]):
        code, said = darkroom(*command, str(folder))
        rows.append(Row.of_claim(folder.name, f"{command[1]} names {kind}", code == 2 and kind in said, said))
    after = zoo.service.aliases(registered)
    rows.append(Row.of_claim(folder.name, "nothing registered, no alias moved", before == after, f"{before} -> {after}"))
    return rows


def main() -> None:
    zoo, chosen = Zoo(Path(sys.argv[1])), sys.argv[2:]
    catalog = json.loads((zoo.folder / "catalog.json").read_text())

    def is_chosen(name: str) -> bool:
        return not chosen or name in chosen

    rows: list[Row] = []
    for model in filter(is_chosen, catalog["models"]):
        rows += guarded(model, lambda model=model: check_model(zoo, model))
    for mixer in catalog["mixers"]:
        if is_chosen(mixer["name"]):
            rows += guarded(mixer["name"], lambda one=mixer: check_mixer(zoo, one["name"], one["wanted"], one["reason"]))
    if is_chosen("wrong"):
        registered = catalog["models"][0]
        push(zoo, registered)
        for wrong in catalog["wrong"]:
            folder = zoo.folder / "wrong" / wrong["name"]
            rows += guarded(wrong["name"], lambda folder=folder, one=wrong: check_wrong_file(zoo, folder, one["kind"], registered))
    print_table(rows)
    misses = sum(not row.is_kept for row in rows)
    print(f"\n{len(rows)} lines, {misses} misses")
    sys.exit(1 if misses else 0)


def guarded(model: str, work: Any) -> list[Row]:
    """The lines of a model. A failure is one line, and the other models go on."""
    print(f"==> {model}", file=sys.stderr, flush=True)
    try:
        return work()
    except (ValueError, KeyError, LookupError, TimeoutError, OSError) as error:
        return [Row.of_claim(model, "answered", False, str(error))]


if __name__ == "__main__":
    main()
