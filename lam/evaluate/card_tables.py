"""The tables of a model card: data sets, errors, elements, and the errors by domain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from ase.data import atomic_numbers, chemical_symbols

from lam.model.heads import HeadInfo

Entry = dict[str, Any]
"""One data set of a report (see lam/evaluate/report.py)."""

OTHER = "other"
"""Domain of the data sets that no domain names."""

_MAIN_ROWS = (
    (1, *[0] * 16, 2),
    (3, 4, *[0] * 10, *range(5, 11)),
    (11, 12, *[0] * 10, *range(13, 19)),
    tuple(range(19, 37)),
    tuple(range(37, 55)),
    (55, 56, 0, *range(72, 87)),
    (87, 88, 0, *range(104, 119)),
)
_F_ROWS = (tuple(range(57, 72)), tuple(range(89, 104)))
_CELL = 6  # "Xx" above a count of up to five digits


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: int = 0) -> str:
    """Return a Markdown table whose last ``right`` columns are aligned to the right."""
    rule = ["---"] * (len(header) - right) + ["---:"] * right
    lines = [header, rule, *([cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float | None, digits: int = 1) -> str:
    """Write a number, or a dash for none."""
    return "-" if value is None else f"{value:,.{digits}f}"


def data_table(heads: Sequence[HeadInfo], splits: Mapping[str, str]) -> str:
    """Return the table of the training data; ``splits`` says how each set was split (group or block)."""
    rows = []
    for head in heads:
        symbols = list(head.elements)
        elements = " ".join(symbols) if len(symbols) <= 8 else f"{len(symbols)} elements"
        cells = [head.name, head.level_of_theory, head.licence, elements, "yes" if head.has_stress else "no"]
        rows.append([*cells, splits.get(head.name, "not recorded"), f"{head.n_structures:,}"])
    total = f"**{sum(head.n_structures for head in heads):,}**"
    rows.append([f"**{len(heads)} data sets**", "", "", "", "", "", total])
    header = ("data set (= head)", "level of theory, as stated", "licence, as stated", "elements", "stress", "split")
    return markdown((*header, "training structures"), rows, right=1)


def element_table(counts: Mapping[str, int]) -> str:
    """Return the periodic table as text, the number of training structures below each element."""
    blocks = [_element_rows(row, counts) for row in _MAIN_ROWS]
    blocks += [_element_rows((0, 0, 0, *row), counts) for row in _F_ROWS]
    return "\n".join(line for block in blocks if block for line in block)


def _element_rows(row: Sequence[int], counts: Mapping[str, int]) -> tuple[str, str] | None:
    symbols = [chemical_symbols[z] if z else "" for z in row]
    if not any(symbol in counts for symbol in symbols):
        return None
    numbers = [str(counts[s]) if s in counts else ("-" if s else "") for s in symbols]
    return tuple("".join(cell.rjust(_CELL) for cell in cells).rstrip() for cells in (symbols, numbers))


def rare_elements(counts: Mapping[str, int], below: int) -> list[str]:
    """Return the elements with fewer than ``below`` training structures, by atomic number."""
    return sorted((s for s, count in counts.items() if count < below), key=atomic_numbers.__getitem__)


def narrow_elements(heads: Sequence[HeadInfo], at_most: int) -> list[str]:
    """Return the elements that occur in at most so many data sets, by atomic number."""
    found: dict[str, int] = {}
    for head in heads:
        for symbol in head.elements:
            found[symbol] = found.get(symbol, 0) + 1
    return sorted((s for s, count in found.items() if count <= at_most), key=atomic_numbers.__getitem__)


def domain_of(name: str, domains: Mapping[str, Sequence[str]]) -> str:
    """Return the domain of a data set."""
    return next((domain for domain, names in domains.items() if name in names), OTHER)


def by_domain(entries: Sequence[Entry], domains: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, list[Entry]]]:
    """Yield every domain that has entries, with them."""
    for domain in (*domains, OTHER):
        members = [entry for entry in entries if domain_of(entry["name"], domains) == domain]
        if members:
            yield domain, members


def error_table(entries: Sequence[Entry], domains: Mapping[str, Sequence[str]]) -> str:
    """Return the errors of data sets beside the baseline, grouped by domain."""
    rows = []
    for domain, members in by_domain(entries, domains):
        if domains:
            rows.append([f"**{domain}**", *[""] * 8])
        rows += [_error_row(entry) for entry in members]
    header = ("data set", "test structures", "E", "E baseline", "F", "F baseline", "F ratio", "S", "S baseline")
    return markdown(header, rows, right=8)


def _error_row(entry: Entry) -> list[str]:
    energy, forces, stress = (entry[key] or {} for key in ("energy", "forces", "stress"))
    block = " (block)" if "block" in entry["split"] else ""
    star = "\\*" if energy.get("refitted") and energy["mae"] is not None else ""
    return [
        entry["name"],
        f"{entry['n_structures']:,}{block}",
        number(energy.get("mae")) + star,
        number(energy.get("baseline_mae")),
        number(forces.get("mae")),
        number(forces.get("baseline_mae")),
        number(forces.get("ratio_mae"), 2),
        number(stress.get("mae"), 2),
        number(stress.get("baseline_mae"), 2),
    ]


def domain_medians(entries: Sequence[Entry], domains: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Return, for each domain, medians over its data sets with informative forces.

    Returns:
        Mappings with ``domain``, ``n_sets``, ``force_ratio`` (median), ``worst``, ``force_mae`` and
        ``force_baseline`` (meV/A, medians) and ``energy_mae`` (meV/atom, median).
    """
    table = []
    for domain, members in by_domain([entry for entry in entries if entry["informative"]], domains):
        ratios = [entry["forces"]["ratio_mae"] for entry in members]
        energies = [entry["energy"]["mae"] for entry in members if (entry["energy"] or {}).get("mae") is not None]
        table.append(
            {
                "domain": domain,
                "n_sets": len(members),
                "force_ratio": median(ratios),
                "worst": max(ratios),
                "force_mae": median(entry["forces"]["mae"] for entry in members),
                "force_baseline": median(entry["forces"]["baseline_mae"] for entry in members),
                "energy_mae": median(energies) if energies else None,
            }
        )
    return table


def domain_table(entries: Sequence[Entry], domains: Mapping[str, Sequence[str]]) -> str:
    """Return :func:`domain_medians` as a Markdown table."""
    rows = [
        [
            row["domain"],
            str(row["n_sets"]),
            number(row["energy_mae"]),
            number(row["force_mae"]),
            number(row["force_baseline"]),
            number(row["force_ratio"], 2),
            number(row["worst"], 2),
        ]
        for row in domain_medians(entries, domains)
    ]
    header = ("domain", "data sets", "E", "F", "F baseline", "F ratio", "worst ratio")
    return markdown(header, rows, right=6)
