"""What a corpus covers: a periodic table with counts, pairs of elements, families, failures."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from lam.atomic_write import atomic_file
from lam.corpus.coverage import Coverage
from lam.corpus.elements import MAX_Z


def place_of(z: int) -> tuple[int, int]:
    """Return row and column of an element in the periodic table (lanthanides below it), from 0."""
    if 58 <= z <= 71:
        return 7, z - 55
    ends = (0, 2, 10, 18, 36, 54, 86)
    period = next(p for p in range(1, 7) if z <= ends[p])
    index = z - ends[period - 1] - 1
    length = ends[period] - ends[period - 1]
    if period == 1:
        return 0, 0 if index == 0 else 17
    left = 2 if length == 8 else 3
    if index < left:
        return period - 1, index
    return period - 1, 18 - (length - index)


def plot_periodic_table(coverage: Coverage, path: Path, title: str) -> None:
    """Write a periodic table with the number of structures that contain each element."""
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm

    from lam.plot_style import INK, new_figure

    numbers = coverage.elements[1:]
    norm = LogNorm(vmin=max(1, numbers[numbers > 0].min(initial=1)), vmax=max(2, numbers.max()))
    colours = colormaps["YlGnBu"]
    with new_figure(path, 11.0, 5.0) as figure:
        axes = figure.add_subplot()
        for z in range(1, MAX_Z + 1):
            row, column = place_of(z)
            count = int(coverage.elements[z])
            shade = colours(norm(count)) if count else (1.0, 1.0, 1.0, 1.0)
            dark = 0.3 * shade[0] + 0.59 * shade[1] + 0.11 * shade[2] < 0.5
            below = row - (0.6 if row == 7 else 0)
            axes.add_patch(_square(column, below, shade))
            text = {"ha": "center", "va": "center", "color": "white" if dark else INK}
            axes.text(column, below - 0.14, chemical_symbols[z], fontsize=10, fontweight="bold", **text)
            axes.text(column, below + 0.24, f"{count}", fontsize=7, **text)
        axes.set(xlim=(-0.6, 17.6), ylim=(7.0, -0.6), aspect="equal", title=title)
        axes.axis("off")


def _square(column: float, row: float, colour: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, facecolor=colour, edgecolor="#8a8f98", linewidth=0.6)


def plot_pairs(coverage: Coverage, path: Path, title: str) -> None:
    """Write a map of how many structures contain each pair of elements."""
    from matplotlib.colors import LogNorm

    from lam.plot_style import new_figure

    counts = coverage.pairs[1:, 1:].astype(float)
    counts[counts == 0] = np.nan
    with new_figure(path, 7.5, 6.6) as figure:
        axes = figure.add_subplot()
        extent = (0.5, MAX_Z + 0.5, 0.5, MAX_Z + 0.5)
        norm = LogNorm(vmin=1, vmax=max(2.0, float(np.nanmax(counts))))
        image = axes.imshow(counts, origin="lower", extent=extent, norm=norm, cmap="YlGnBu", interpolation="nearest")
        figure.colorbar(image, ax=axes, label="structures with both elements")
        axes.set(xlabel="atomic number", ylabel="atomic number", title=title)


def write_pairs(coverage: Coverage, path: Path) -> None:
    """Write the table of pairs: symbols and in how many structures both occur (one element: two atoms of it)."""
    with atomic_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["first", "second", "structures"])
        for a in range(1, MAX_Z + 1):
            for b in range(a, MAX_Z + 1):
                writer.writerow([chemical_symbols[a], chemical_symbols[b], int(coverage.pairs[a, b])])


def table(plan: Mapping[str, Any], results: Mapping[str, Mapping[str, Any]], labelled: Coverage | None) -> str:
    """Return the report in Markdown: families, failures, rates, coverage."""
    lines = [
        "| family | engine | structures | labelled | failures | structures per second and process |",
        "|---|---|---|---|---|---|",
    ]
    for name, known in plan["families"].items():
        if name not in results:
            lines.append(f"| {name} | | {known['structures']} | | | |")
    for name, result in results.items():
        failures = ", ".join(f"{kind} {count}" for kind, count in sorted(result["failures"].items())) or "none"
        # A run that was resumed calculated only a part in these seconds.
        speed = f"{result['calculated'] / result['seconds'] / result['jobs']:.2f}" if result["calculated"] else ""
        counted = f"{result['structures']} | {result['labelled']} | {failures}"
        lines.append(f"| {name} | {result['engine']} | {counted} | {speed} |")
    lines += [
        "",
        "| coverage | structures | elements of 86 | rarest element | pairs of 3741 | median of pairs |",
        "|---|---|---|---|---|---|",
    ]
    for name, known in (("planned", plan["coverage"]), ("labelled", labelled.to_dict() if labelled else None)):
        if known:
            lines.append(
                f"| {name} | {known['structures']} | {known['elements_covered']} | {known['least_element']} "
                f"| {known['pairs_covered']} | {known['pairs_median']:g} |"
            )
    return "\n".join(lines) + "\n"


def summary(
    plan: Mapping[str, Any], results: Mapping[str, Mapping[str, Any]], labelled: Coverage | None
) -> dict[str, Any]:
    """Return in plain values what identifies a corpus and what came of it: small enough to be kept with a project."""
    known = {key: value for key, value in plan.items() if key not in ("families", "coverage")}
    coverage = {"planned": plan["coverage"], "labelled": labelled.to_dict() if labelled else None}
    told = ("engine", "level_of_theory", "settings", "max_force", "labelled", "failures", "not_calculated")
    families = {
        name: {key: family[key] for key in ("structures", "atoms", "fingerprint")} for name, family in
        plan["families"].items()
    }  # fmt: skip
    for name, result in results.items():
        families[name] = families.get(name, {"structures": result["structures"]}) | {
            key: result[key] for key in told if key in result
        }
    return known | {"coverage": coverage, "families": families}


def write_report(
    folder: Path, plan: Mapping[str, Any], results: Mapping[str, Mapping[str, Any]], planned: Coverage,
    labelled: Coverage | None,
) -> None:  # fmt: skip
    """Write ``report.md``, ``summary.json``, the figures and the table of pairs.

    They are of the labelled structures where there are labels, else of what is planned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shown, what = (labelled, "labelled") if labelled is not None and labelled.structures else (planned, "planned")
    plot_periodic_table(
        shown, folder / "periodic_table.png", f"{shown.structures} {what} structures: how many contain the element"
    )
    plot_pairs(shown, folder / "pairs.png", f"{what} structures with both elements")
    write_pairs(shown, folder / "pairs.csv")
    with atomic_file(folder / "summary.json") as temporary:
        temporary.write_text(json.dumps(summary(plan, results, labelled), indent=2) + "\n", encoding="utf-8")
    text = f"# Corpus of {plan['structures']} structures, seed {plan['seed']}\n\n" + table(plan, results, labelled)
    with atomic_file(folder / "report.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
