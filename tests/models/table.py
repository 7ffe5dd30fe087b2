"""The table that a check prints: a line for each claim."""

from dataclasses import dataclass

DETAIL_CHARACTERS = 160


@dataclass(frozen=True)
class Row:
    """One claim about one model, and whether it is kept."""

    model: str
    what: str
    tolerance: str
    largest: str
    is_kept: bool
    detail: str = ""

    @classmethod
    def of_number(cls, model: str, what: str, tolerance: float, largest: float, detail: str = "") -> "Row":
        """Kept if the number is not above the tolerance. NaN is a miss."""
        return cls(model, what, f"{tolerance:g}", f"{largest:.2g}", largest <= tolerance, detail)

    @classmethod
    def of_claim(cls, model: str, what: str, is_kept: bool, detail: str) -> "Row":
        """`detail` says why, on one line."""
        return cls(model, what, "", "", is_kept, " ".join(detail.split())[:DETAIL_CHARACTERS])


def print_table(rows: list[Row]) -> None:
    """Prints the lines below each other."""
    head = ("model", "what", "tolerance", "largest difference", "verdict", "")
    lines = [head] + [
        (row.model, row.what, row.tolerance, row.largest, "kept" if row.is_kept else "MISS", row.detail) for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
