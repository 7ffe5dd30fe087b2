"""Draws the CSVs of a folder as PNGs into this folder: draw.py FOLDER (tests/bench/plot calls it)."""

import csv
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

FOLDER = pathlib.Path(sys.argv[1])
OURS, OTHER, GOAL = "#1f5fa8", "#9aa5b1", "#c0392b"
plt.rcParams.update({
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 9.5,
    "axes.titlelocation": "left", "axes.axisbelow": True, "figure.facecolor": "white",
})


def rows(name):
    with (FOLDER / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def number(row, column):
    return float(row[column]) if row[column] else None


def short(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def save(figure, name):
    figure.tight_layout()
    # Leaves out the version of matplotlib: equal CSVs must make equal bytes.
    figure.savefig(FOLDER / f"{name}.png", dpi=110, metadata={"Software": None})
    plt.close(figure)


def history(axes, title, readings, goal, sign):
    """Draws one dot for each run, in the order of the rows, and a dashed line at the goal."""
    readings = [(row["date"], value) for row, value in readings if value is not None]
    values = [value for _, value in readings]
    met = [value >= goal if sign == "≥" else value <= goal for value in values]
    places = range(1, len(values) + 1)
    axes.plot(places, values, color=OTHER, linewidth=0.8)
    axes.scatter(places, values, color=[OURS if good else GOAL for good in met], s=22, zorder=3)
    axes.axhline(goal, color="#333333", linestyle="--", linewidth=1)
    axes.set_title(f"{title}\ngoal {sign} {goal:,g}, latest {short(values[-1])}")
    axes.set_ylim(0, max([*values, goal]) * 1.15)
    axes.set_xlim(0.5, len(values) + 0.5)
    # The first run of each date has the label.
    firsts = [n for n in range(len(readings)) if n == 0 or readings[n][0] != readings[n - 1][0]]
    near = len(values) / 7
    shown = [n for at, n in enumerate(firsts) if at + 1 == len(firsts) or firsts[at + 1] - n > near]
    axes.set_xticks([n + 1 for n in shown], [readings[n][0][5:] for n in shown])
    axes.grid(axis="y", color="#e6e6e6")


def draw_history():
    figure, grid = plt.subplots(2, 4, figsize=(13, 5.4))
    e2e, overhead, latency, cold, soak, waiters = map(rows, ["e2e", "overhead", "latency", "cold", "soak", "waiters"])

    def of(readings, column):
        return [(row, number(row, column)) for row in readings]

    def computed(readings, make, above, below):
        return [(row, make(number(row, above), number(row, below))) for row in readings]

    less, to = (lambda a, b: a - b), (lambda a, b: a / b)
    history(grid[0, 0], "e2e: images/s, to the bare loop", of(e2e, "ratio"), 0.9, "≥")
    history(grid[0, 1], "overhead: CPU ms a job", of(overhead, "cpu_ms_per_job"), 2.5, "≤")
    history(grid[0, 2], "latency: ms above a bare call, p50", computed(latency, less, "e2e_p50_ms", "bare_p50_ms"), 8, "≤")
    history(grid[0, 3], "latency: ms above a bare call, p99", computed(latency, less, "e2e_p99_ms", "bare_p99_ms"), 20, "≤")
    history(grid[1, 0], "cold: ms to the first result", of(cold, "cold_ms"), 2000, "≤")
    history(grid[1, 1], "soak: worker's memory, growth", computed(soak, to, "worker_mib", "worker_warm_mib"), 1.05, "≤")
    history(grid[1, 2], "waiters: submit p99, growth", of(waiters, "ratio"), 2, "≤")
    history(grid[1, 3], "waiters: KiB a waiter", of(waiters, "kib_per_waiter"), 20, "≤")
    save(figure, "history")


def draw_decode():
    """CPU milliseconds of a photo, from the latest run of each size."""
    latest = {row["size"]: row for row in rows("decode")}
    systems = [("Darkroom", "darkroom_ms", OURS), ("Pillow", "pillow_ms", OTHER), ("crate image", "image_ms", "#d9dee3")]
    figure, axes = plt.subplots(figsize=(6, 3.2))
    for at, (system, column, color) in enumerate(systems):
        places = [size + (at - 1) * 0.27 for size in range(len(latest))]
        values = [number(row, column) for row in latest.values()]
        bars = axes.bar(places, values, 0.26, label=system, color=color)
        axes.bar_label(bars, [f"{value:.3g}" for value in values], padding=2, fontsize=8)
    axes.set_yscale("log")
    axes.set_ylim(1, 400)
    axes.set_xticks(range(len(latest)), list(latest))
    axes.set_title("decode: CPU ms a photo, latest run (logarithmic)")
    axes.legend(frameon=False, loc="upper left")
    save(figure, "decode")


def draw_queue():
    """Left: ratios to the best other system, of all runs. Right: the latest run of `depth`."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 3.6), width_ratios=[3, 2])
    ratios = [row for row in rows("queue") if row["system"] == "to_best_other"]
    measures = [
        ("submits\nin bulk", "bulk_jobs_per_s", 1.5), ("submits by\n1 caller", "submit_1_jobs_per_s", None),
        ("by 16\ncallers", "submit_16_jobs_per_s", 5), ("by 64\ncallers", "submit_64_jobs_per_s", 15),
        ("drain", "drain_jobs_per_s", 1.2), ("drain by\nhundreds", "drain_100_jobs_per_s", 1.5),
    ]
    for place, (_, column, goal) in enumerate(measures):
        values = [number(row, column) for row in ratios]
        left.scatter([place] * len(values), values, color=OTHER, s=22, zorder=3, label="each run" if place == 0 else None)
        left.scatter([place], values[-1:], color=OURS, s=40, zorder=4, label="latest run" if place == 0 else None)
        left.annotate(f"{values[-1]:.3g}", (place, values[-1]), xytext=(7, -3), textcoords="offset points", color=OURS)
        if goal:
            left.plot([place - 0.3, place + 0.3], [goal, goal], color=GOAL, linewidth=1.5, label="goal" if place == 0 else None)
    left.axhline(1, color="#333333", linewidth=0.8)
    left.set_yscale("log")
    left.set_yticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
    left.minorticks_off()
    left.set_xticks(range(len(measures)), [name for name, _, _ in measures])
    left.grid(axis="y", color="#e6e6e6")
    left.set_title("queue: jobs/s, to the best other system (logarithmic, more is better)")
    left.legend(frameon=False, loc="upper left")

    latest = {row["depth"]: row for row in rows("depth")}
    depths = [
        ("finished_1000000", "1 million\nfinished"), ("finished_10000000", "10 million\nfinished"),
        ("queued", "1 million\nqueued"), ("held_snapshot", "held\nsnapshot"),
    ]
    for at, (verb, column, color) in enumerate([("claim", "claim_ratio", OURS), ("completion", "complete_ratio", "#6b7a8c")]):
        places = [n + (at - 0.5) * 0.36 for n in range(len(depths))]
        bars = right.bar(places, [number(latest[depth], column) for depth, _ in depths], 0.35, color=color, label=verb)
        right.bar_label(bars, fmt="%.2f", label_type="center", color="white", fontsize=8)
    for place, goal in enumerate([1.15, 1.15, 1.15, 2]):
        label = "goal" if place == 0 else None
        right.plot([place - 0.42, place + 0.42], [goal, goal], color=GOAL, linewidth=1.5, label=label)
    right.set_ylim(0, 2.9)
    right.set_xticks(range(len(depths)), [name for _, name in depths])
    right.set_title("depth: time of ten jobs, to a small database")
    right.legend(frameon=False, loc="upper left", ncols=3)
    save(figure, "queue")


def draw_systems():
    """The latest run of each system. Whiskers show minimum and maximum."""
    systems = [row for row in rows("systems") if row["images_per_s_1"]]
    systems = list({row["system"]: row for row in systems}.values())
    figure, grid = plt.subplots(1, 4, figsize=(12, 3.2), sharey=True)
    columns = [
        ("images/s, 1 client", "images_per_s_1"), ("images/s, 8 clients", "images_per_s_8"),
        ("images/s, 32 clients", "images_per_s_32"), ("memory, MiB", "memory_mib"),
    ]
    names = [row["system"] for row in systems]
    for axes, (title, column) in zip(grid, columns):
        values = [number(row, column) for row in systems]
        colors = [OURS if name == "Darkroom" else OTHER for name in names]
        whiskers = None
        if f"{column}_min" in systems[0]:
            whiskers = [
                [value - number(row, f"{column}_min") for value, row in zip(values, systems)],
                [number(row, f"{column}_max") - value for value, row in zip(values, systems)],
            ]
        bars = axes.barh(range(len(values)), values, color=colors, xerr=whiskers, error_kw={"linewidth": 0.9})
        axes.bar_label(bars, [short(value) for value in values], padding=5, fontsize=8)
        axes.set_xlim(0, max(values) * 1.25)
        axes.set_yticks(range(len(names)), names)
        axes.set_title(title)
        axes.spines["left"].set_visible(False)
        axes.tick_params(left=False)
    grid[0].invert_yaxis()
    save(figure, "systems")


for draw in (draw_history, draw_decode, draw_queue, draw_systems):
    draw()
print("drawn:", *sorted(str(path) for path in FOLDER.glob("*.png")))
