"""Transcribe the table of ../shared/data/README.md into configs/data/shared.yaml.

Run from the root of the repository, when that README changes:

    python data_prep/shared_metadata.py ../shared/data/README.md configs/data/shared.yaml
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from lam.data.readers import stem

HEADER = """\
# What is known about each file of ../shared/data, for `lam data convert --metadata`.
# Transcribed from its README.md by data_prep/shared_metadata.py; "(m)" = from memory, not read in a source.
"""
# The README says of these that they are anions; the files do not state a charge.
CHARGES = {"sn2-reactions-mp2": -1.0}
# Drawn more often: two atoms each, so cheap, and all that is known of many pairs at short range; and the
# broadest sets of their kind, which the default heads learn from.
WEIGHTS = {
    "diatomics-pbe": 4.0,
    "diatomics-r2scan": 4.0,
    "mattersim-mptrj-random-1k": 2.0,
    "mattersim-mpf-TP": 2.0,
    "mattersim-random-TP": 2.0,
    "spice-test-subset-wb97md3": 2.0,
}


def read_table(text: str) -> dict[str, dict[str, Any]]:
    """Return the metadata of each file named in the README's table."""
    datasets: dict[str, dict[str, Any]] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) != 14 or not cells[0].endswith(".xz"):
            continue
        file, system, repository, paper, level, licence, notes = *cells[:5], *cells[12:]
        name = stem(file)
        entry = {"level_of_theory": level, "licence": licence, "source": f"{repository}; {paper}"}
        entry["notes"] = f"{system}. {notes}".rstrip(". ") + "."
        if name in CHARGES:
            entry["total_charge"] = CHARGES[name]
        if name in WEIGHTS:
            entry["weight"] = WEIGHTS[name]
        datasets[name] = entry
    return datasets


def main() -> None:
    """Read the README named first, write the YAML named second."""
    source, target = map(Path, sys.argv[1:3])
    datasets = read_table(source.read_text(encoding="utf-8"))
    text = yaml.safe_dump({"datasets": datasets}, sort_keys=False, allow_unicode=True, width=110)
    target.write_text(HEADER + text, encoding="utf-8")
    print(f"{len(datasets)} data sets -> {target}")


if __name__ == "__main__":
    main()
