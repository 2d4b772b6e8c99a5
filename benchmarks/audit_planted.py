"""Plant mistakes in real data sets and see whether the audit names them.

    python benchmarks/audit_planted.py data/shared/mgcu-pbe.h5 data/shared/3bpa.h5 --structures 400

prints one row for each data set and mistake: found (with the audit's words), or not. Nothing is written.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from lam.data.audit import Auditor
from lam.data.audit.auditor import sample_rows
from lam.data.shards import open_shard
from lam.data.structure import Structure

HARTREE, BOHR, KCAL, KBAR = 27.2114, 0.529177, 23.0605, 1602.177
RANDOM = np.random.default_rng(0)

#: Name, what is done to a structure, what must be said, the label it needs.
PLANTS: list[tuple[str, Callable[[Structure], dict], str, str]] = [
    ("forces are gradients", lambda s: {"forces": -s.forces}, "wrong sign", "forces"),
    ("forces in Hartree/Bohr", lambda s: {"forces": s.forces * BOHR / HARTREE}, "Hartree/Bohr", "forces"),
    ("forces in kcal/mol/A", lambda s: {"forces": s.forces * KCAL}, "kcal/mol", "forces"),
    ("energies in Hartree", lambda s: {"energy": s.energy / HARTREE}, "Hartree", "energy"),
    ("stress in kbar, VASP's sign", lambda s: {"stress": -KBAR * s.stress}, "kbar|median pressure", "stress"),
    ("stress of wrong sign", lambda s: {"stress": -s.stress}, "wrong sign", "stress"),
    ("positions in Bohr", lambda s: {"positions": s.positions / BOHR, "cell": s.cell / BOHR}, "Bohr", "energy"),
    ("a tenth of the forces zero", lambda s: _sometimes({"forces": 0 * s.forces}, 0.1), "exactly zero", "forces"),
    ("a third 50 meV/atom higher", lambda s: _sometimes({"energy": s.energy + 0.05 * len(s)}, 0.3), "level", "energy"),
]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shards", nargs="+", type=Path)
    parser.add_argument("--structures", type=int, default=400, help="of each data set")
    args = parser.parse_args()
    print("| data set | planted | found | said |\n|---|---|---|---|")
    for path in args.shards:
        shard = open_shard(path)
        structures = [shard[row] for row in sample_rows(len(shard), args.structures).tolist()]
        clean = set(suspicious(structures))
        for name, change, words, label in PLANTS:
            if all(getattr(s, label) is not None for s in structures):
                planted = [replace(s, **change(s)) for s in structures]
                new = [message for message in suspicious(planted) if message not in clean]
                hit = next((message for message in new if re.search(words, message)), "")
                print(f"| {path.stem} | {name} | {'yes' if hit else 'no'} | {hit[-90:]} |", flush=True)
        print(f"| {path.stem} | a copy, turned and moved | {'yes' if finds_copy(structures) else 'no'} | |", flush=True)


def suspicious(structures: list[Structure]) -> list[str]:
    """Return the messages that are more than notes."""
    return [finding.message for finding in audited(structures).findings() if finding.suspicious]


def audited(structures: list[Structure]) -> Auditor:
    """Let an auditor see structures."""
    auditor = Auditor()
    for structure in structures:
        auditor.update(structure)
    return auditor


def finds_copy(structures: list[Structure]) -> bool:
    """Is a structure found again that was turned and moved?"""
    original = structures[len(structures) // 3]
    turn = np.linalg.qr(RANDOM.normal(size=(3, 3)))[0]
    moved = {"positions": original.positions @ turn + 1.3, "cell": original.cell @ turn, "source": "copy#0"}
    if original.forces is not None:
        moved["forces"] = original.forces @ turn
    if original.stress is not None:
        moved["stress"] = turn.T @ original.stress @ turn
    findings = audited([*structures, replace(original, **moved)]).findings()
    return any("copy#0" in finding.structures for finding in findings if finding.kind == "near-duplicates")


def _sometimes(changes: dict, share: float) -> dict:
    return changes if RANDOM.random() < share else {}


if __name__ == "__main__":
    main()
