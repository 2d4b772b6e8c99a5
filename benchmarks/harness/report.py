"""Tables, files and plots of results."""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Sequence[str]


def text_table(header: Row, rows: Sequence[Row]) -> str:
    """Return a table for the terminal: first column to the left, the others to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    made = []
    for line in lines:
        others = [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        made.append("  ".join([line[0].ljust(widths[0]), *others]).rstrip())
    return "\n".join(made)


def markdown_table(header: Row, rows: Sequence[Row]) -> str:
    """Return the same table in Markdown."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits, without exponent; a dash for ``None``."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    magnitude = int(f"{value:e}".partition("e")[2])
    return f"{value:,.{max(0, digits - 1 - magnitude)}f}"


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    import torch

    name = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = names[0] if names else name
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "load_at_start": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def command_line() -> str:
    """Return the command that is running, as a user would type it in the project's folder."""
    script = Path(sys.argv[0]).resolve()
    root = Path(__file__).resolve().parents[2]
    name = script.relative_to(root) if script.is_relative_to(root) else script.name
    return shlex.join(["python", str(name), *sys.argv[1:]])


def save(out: Path, name: str, results: dict[str, Any], sections: Sequence[tuple[str, Row, Sequence[Row]]]) -> None:
    """Write ``<name>.json`` and ``<name>.md``, and print the tables.

    Args:
        out: folder.
        name: of the files, without ending.
        results: all numbers; the command and the machine are added.
        sections: title, header and rows of each table.
    """
    out.mkdir(parents=True, exist_ok=True)
    described = {"command": command_line(), "machine": results.pop("machine", None) or machine(), **results}
    (out / f"{name}.json").write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    parts = [f"    {described['command']}\n"]
    for title, header, rows in sections:
        parts.append(f"{title}\n\n{markdown_table(header, rows)}\n")
        print(f"\n{title}\n\n{text_table(header, rows)}")
    (out / f"{name}.md").write_text("\n".join(parts), encoding="utf-8")
    print(f"\nwritten: {out / name}.json, .md")


def save_plot(axes: Axes, path: Path) -> None:
    """Finish and write the plot that ``axes`` are part of."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure = axes.get_figure()
    for each in figure.axes:
        for axis in (each.xaxis, each.yaxis):
            if axis.get_scale() == "log":
                axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
                axis.set_minor_formatter(NullFormatter())
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    print(f"written: {path}")


def save_bars(
    path: Path, groups: Sequence[str], series: dict[str, Sequence[float | None]], label: str, width: float = 7.0
) -> None:
    """Draw and write a plot of grouped bars; ``label`` is that of their height."""
    axes = new_axes(width)
    grouped_bars(axes, groups, series)
    axes.set_ylabel(label)
    save_plot(axes, path)


def new_axes(width: float = 7.0, height: float = 4.0, columns: int = 1) -> Any:
    """Return the axes of a new figure that needs no display; an array of them if there are more columns."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from lam.plot_style import RC

    with matplotlib.rc_context(RC):
        return pyplot.subplots(1, columns, figsize=(width, height))[1]


def grouped_bars(axes: Axes, groups: Sequence[str], series: dict[str, Sequence[float | None]]) -> None:
    """Draw bars of each series side by side in each group, on a logarithmic scale, the value on top."""
    width = 0.85 / len(series)
    for place, (name, values) in enumerate(series.items()):
        at = [group + (place - (len(series) - 1) / 2) * width for group in range(len(groups))]
        bars = axes.bar(at, [value or 0.0 for value in values], width, label=name)
        labels = [number(value, 2) if value else "" for value in values]
        axes.bar_label(bars, labels, fontsize=6, rotation=90, padding=2)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.15)  # room for the numbers
    axes.legend(fontsize=7, frameon=False, ncols=min(4, len(series)), loc="lower center", bbox_to_anchor=(0.5, 1.0))


def progress(text: str) -> None:
    """Say on standard error what is going on."""
    print(text, file=sys.stderr, flush=True)
