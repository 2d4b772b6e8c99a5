"""Forces must sum to zero, and in a molecule so must their torques."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lam.data.audit.check import Check, Context, View
from lam.data.audit.finding import EXAMPLES, Finding
from lam.data.audit.ledger import Ledger

MIN_STRUCTURES = 20  # for a statement about the data set
NET_FORCE = 0.05
"""eV/Angstrom per atom: a median above it is no numerical noise."""
NET_SHARE = 0.1
"""Net force over the sum of the absolute forces, and the same of torques."""
TORQUE_SHARE = 0.1
ODD_FACTOR = 20.0
"""A single structure is odd if it is this many times above the 90th percentile of the data set."""
MIN_FORCE = 0.05  # eV/Angstrom: mean absolute force below which shares are noise


class Balance(Check):
    """Net force of every structure, net torque of those without periodicity."""

    columns = {"net_force": ("f4", ()), "net_share": ("f4", ()), "torque_share": ("f4", ())}

    def see(self, view: View) -> None:
        """Sum up."""
        s = view.structure
        if s.forces is None or len(s) < 2:
            return
        size = float(np.linalg.norm(s.forces, axis=1).sum())
        net = float(np.linalg.norm(s.forces.sum(axis=0)))
        view.put(net_force=np.abs(s.forces.mean(axis=0)).max(), net_share=net / size if size else 0.0)
        if not s.pbc.any() and len(s) > 2 and size > MIN_FORCE * len(s):
            arm = s.positions - s.positions.mean(axis=0)
            forces = s.forces - s.forces.mean(axis=0)
            moments = arm.T @ forces  # its antisymmetric part is the torque
            torque = np.linalg.norm((moments - moments.T)[[1, 2, 0], [2, 0, 1]])
            most = (np.linalg.norm(arm, axis=1) * np.linalg.norm(forces, axis=1)).sum()
            view.put(torque_share=torque / most if most else 0.0)

    def judge(self, ledger: Ledger, context: Context) -> Iterator[Finding]:
        """Judge the data set as a whole, then single structures that stand out of it."""
        net, share = ledger["net_force"].astype(float), ledger["net_share"].astype(float)
        rows = np.flatnonzero(np.isfinite(net))
        if not len(rows):
            return
        median = float(np.median(net[rows]))
        if median > NET_FORCE:
            yield Finding(
                "warning",
                "units",
                f"forces do not sum to zero (median {median:.2g} eV/Angstrom per atom): "
                "are some atoms missing or constrained?",
                count=len(rows),
                confidence=0.9,
                why=f"the median net force is {np.median(share[rows]):.0%} of the sum of all forces, where noise is 1%",
                action="store the forces of all atoms, before constraints and without external fields",
            )
        else:
            limit = max(NET_FORCE, ODD_FACTOR * float(np.quantile(net[rows], 0.9)))
            odd = rows[(net[rows] > limit) & (share[rows] > NET_SHARE)]
            yield from _single(ledger, odd, net, "eV/Angstrom per atom", "forces that do not sum to zero", "net force")
        yield from self._torques(ledger)

    def _torques(self, ledger: Ledger) -> Iterator[Finding]:
        torque = ledger["torque_share"].astype(float)
        rows = np.flatnonzero(np.isfinite(torque))
        if len(rows) < MIN_STRUCTURES:
            return
        median = float(np.median(torque[rows]))
        if median > TORQUE_SHARE:
            yield Finding(
                "warning",
                "torque",
                f"the forces turn the molecules (net torque {median:.0%} of its largest possible value, in the median)",
                count=len(rows),
                confidence=0.9,
                why="without a field there is no net torque; forces in another orientation or order of atoms make one",
                action="take positions and forces of one orientation (Gaussian: nosymm) and one order of the atoms",
            )
            return
        limit = max(TORQUE_SHARE, ODD_FACTOR * float(np.quantile(torque[rows], 0.9)))
        odd = rows[torque[rows] > limit]
        yield from _single(
            ledger, odd, torque, "over the largest possible", "forces that turn the molecule", "net torque"
        )


def _single(ledger: Ledger, rows: np.ndarray, sizes: np.ndarray, unit: str, what: str, name: str) -> Iterator[Finding]:
    if not len(rows):
        return
    rows = rows[np.argsort(-sizes[rows])]
    examples = "; ".join(f"{ledger.name(row)} ({sizes[row]:.2g})" for row in rows[:EXAMPLES].tolist())
    yield Finding(
        "warning",
        "torque" if "torque" in name else "forces",
        f"{len(rows)} structure(s) have {what} ({name}, {unit}), unlike the rest: {examples}",
        ledger.names(rows),
        len(rows),
        0.85,
        f"{ODD_FACTOR:g} times more than nine of ten structures here",
        "compute these anew or leave them out",
    )
