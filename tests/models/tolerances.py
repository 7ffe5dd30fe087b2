"""Reads `tolerances.tsv`: how far an answer of Darkroom may be from Python's."""

import csv
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Tolerances:
    """By model, set of photos and measure."""

    table: dict[tuple[str, str, str], float]

    @classmethod
    def read(cls, path: Path) -> "Tolerances":
        """Reads the file. Lines that begin with `#` are comments."""
        with path.open(newline="") as file:
            rows = csv.reader((line for line in file if not line.startswith("#")), delimiter="\t")
            next(rows)  # the head
            return cls({(model, photos, measure): float(most) for model, photos, measure, most in rows})

    def of(self, model: str, photos: str, measure: str) -> float:
        """The tolerance of a model, or that of all models (`*`)."""
        for name in (model, "*"):
            if (name, photos, measure) in self.table:
                return self.table[name, photos, measure]
        raise LookupError(f"tolerances.tsv has no line for {model}, {photos}, {measure}")
