"""Runs all checks over a stream of structures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from lam.data.audit.balance import Balance
from lam.data.audit.check import Check, Context, View
from lam.data.audit.coverage import Coverage, Keys, Placeholders
from lam.data.audit.duplicates import Duplicates
from lam.data.audit.finding import Examples, Finding
from lam.data.audit.geometry import Cells, Distances, Inventory
from lam.data.audit.leakage import Leakage, Side, compare, is_held_out
from lam.data.audit.ledger import LIMIT, Ledger
from lam.data.audit.outliers import Outliers
from lam.data.audit.scales import Scales
from lam.data.audit.spring_labels import SpringLabels
from lam.data.audit.springs import BondForces
from lam.data.audit.state import State
from lam.data.audit.theory import Theory
from lam.data.audit.work import Work
from lam.data.describe import DataInput
from lam.data.readers import read_atoms
from lam.data.shards import Shard, open_shard
from lam.data.splits import Split, SplitSpec
from lam.data.stream_splits import split_shard
from lam.data.structure import Structure
from lam.errors import LamError

if TYPE_CHECKING:
    from lam.data.shard_folder import Shards

KEPT_BYTES = 200_000_000
"""Structures of a stream that are kept for comparing them later; shards are read again instead."""
BYTES_PER_STRUCTURE, BYTES_PER_ATOM = 2000, 64
SAMPLE_BLOCK = 16
"""Neighbouring structures that are sampled together, so that trajectories can still be followed."""
_ORDER = {"error": 0, "warning": 1, "note": 2}


class Auditor:
    """Takes structures one by one and judges them together.

    Args:
        context: what is known about the data set.
        limit: rows of the ledger; see `lam.data.audit.ledger`.
    """

    def __init__(self, context: Context | None = None, *, limit: int = LIMIT) -> None:
        self.ledger = Ledger(limit)
        self.broken = Examples()
        self.broken_rows: list[int] = []
        self.total: int | None = None
        """Structures of the source, if more than were looked at."""
        self._kept: dict[int, Structure] = {}
        self._bytes = 0
        self.context = context or Context()
        if context is None:
            self.context.fetch = self._kept.get
        duplicates = Duplicates()
        self.work = Work()
        springs = BondForces(self.work)
        self.work.bonds = springs.measure
        # Order: of the columns that later checks read, and of the findings.
        self.checks: list[Check] = [
            Coverage(), Keys(), Placeholders(), Distances(), Scales(), Balance(), self.work, springs,
            SpringLabels(springs), State(), Cells(), duplicates, Leakage(duplicates), Theory(), Outliers(), Inventory(),
        ]  # fmt: skip
        for check in self.checks:
            for name, (kind, shape) in check.columns.items():
                self.ledger.declare(name, kind, shape)

    def update(self, structure: Structure, *, atoms: Atoms | None = None, index: int | None = None) -> None:
        """Take a structure.

        Args:
            structure: the structure.
            atoms: as it was read from a file, for the names of its values.
            index: its place in the source; by default the structures are counted.
        """
        index = self.ledger.seen if index is None else index
        row = self.ledger.add(structure, index)
        view = View(structure, row, self.ledger, index, atoms)
        for check in self.checks:
            check.see(view)
        cost = BYTES_PER_STRUCTURE + BYTES_PER_ATOM * len(structure)
        if row is not None and self.context.fetch == self._kept.get and self._bytes + cost < KEPT_BYTES:
            self._kept[index] = structure
            self._bytes += cost

    def try_update(
        self, read: Callable[[], Structure], *, atoms: Atoms | None = None, index: int | None = None
    ) -> None:
        """Read and take a structure; if it cannot be used, remember why."""
        try:
            structure = read()
        except LamError as error:
            self.add_broken(error, index)
            return
        self.update(structure, atoms=atoms, index=index)

    def add_broken(self, error: Exception, index: int | None = None) -> None:
        """Remember a frame that cannot be used."""
        text = str(error).rstrip(".")
        self.broken.add(text.split(":")[0], "")
        self.broken.texts[-1:] = [text] if len(self.broken.texts) == self.broken.count else []
        if index is not None:
            self.broken_rows.append(index)

    def findings(self) -> list[Finding]:
        """Judge what was seen: errors first, then warnings, then notes."""
        return sorted(self._judge(), key=lambda finding: _ORDER[finding.level])

    def _judge(self) -> Iterator[Finding]:
        if self.broken:
            yield self.broken.finding(
                "error",
                "unusable",
                f"{self.broken.count} frame(s) cannot be used",
                why="reading them fails",
                action="correct or remove these frames; a training would refuse them",
            )
        if not len(self.ledger):
            return
        for check in self.checks:
            yield from check.judge(self.ledger, self.context)
        total = self.ledger.seen if self.total is None else self.total
        if len(self.ledger) < total:
            seen = "all were looked at one by one; " if self.ledger.seen == total else ""
            yield Finding(
                "note",
                "sample",
                f"{seen}comparisons are of {len(self.ledger)} of {total} structures, in blocks spread evenly",
                count=len(self.ledger),
                why="so that memory and time stay bounded",
            )


@dataclass
class Audited:
    """A data set after its audit."""

    data: DataInput
    auditor: Auditor
    findings: list[Finding]

    @property
    def suspicious(self) -> int:
        """Number of findings that are more than notes."""
        return sum(finding.suspicious for finding in self.findings)


def audit(data: DataInput, *, sample: int | None = None) -> list[Finding]:
    """Return all findings about one data set; broken frames are findings too, not exceptions.

    Args:
        data: the data set.
        sample: look at this many structures of a shard, in blocks spread evenly; at all by default.
    """
    return examine(data, sample=sample).findings


def examine(data: DataInput, *, sample: int | None = None, seen: Callable[[int], None] | None = None) -> Audited:
    """Audit one data set and keep what was collected, for plots and for comparing data sets.

    Args:
        data: the data set.
        sample: as for :func:`audit`.
        seen: is called after every structure with their number.
    """
    context = Context(name=data.name)
    if data.is_shard:
        shard = open_shard(data.path)
        context.split = _splitter(shard, data.spec.split if data.spec else None)
        context.about = shard.attributes | (data.spec.model_dump(include={"level_of_theory"}) if data.spec else {})
        context.fetch = _reader(shard)
        auditor = Auditor(context)
        rows = sample_rows(len(shard), sample)
        auditor.total = len(shard)
        for count, row in enumerate(rows.tolist()):
            auditor.try_update(lambda row=row: shard[row], index=row)
            if seen:
                seen(count + 1)
    else:
        auditor = Auditor(None)
        auditor.context.name = context.name
        for count, (index, atoms, error) in enumerate(_read(data)):
            if error is not None:
                auditor.add_broken(error)
                continue
            name = f"{data.path.name}#{index}"
            auditor.try_update(
                lambda atoms=atoms, name=name: Structure.from_atoms(atoms, source=name), atoms=atoms, index=index
            )
            if seen:
                seen(count + 1)
    return Audited(data, auditor, auditor.findings())


def cross_check(audited: Iterable[Audited], against: Iterable[Audited] = ()) -> list[Finding]:
    """Return what data sets share: training and test, if ``against`` or their names say so; all pairs of them.

    Args:
        audited: data sets to look at.
        against: data sets that the others are trained on.
    """
    audited, against = list(audited), list(against)
    if against:
        pairs = [(old, new, True) for new in audited for old in against]
    else:
        pairs = []
        for a, b in combinations(audited, 2):
            sure = is_held_out(a.data.name) != is_held_out(b.data.name)
            first, second = (b, a) if is_held_out(a.data.name) and sure else (a, b)
            pairs.append((first, second, sure))
    found: list[Finding] = []
    for old, new, sure in pairs:
        sides = [_side(each) for each in (old, new)]
        if all(len(side.rows) for side in sides):
            found += compare(*sides, sure=sure)
    return sorted(found, key=lambda finding: _ORDER[finding.level])


def sample_rows(count: int, sample: int | None) -> np.ndarray:
    """Return the rows to look at, (n,) int64: blocks of neighbours, spread evenly, the first and last among them."""
    if sample is None or sample >= count:
        return np.arange(count)
    blocks = max(1, sample // SAMPLE_BLOCK)
    starts = np.linspace(0, count - SAMPLE_BLOCK, blocks).astype(np.int64)
    return np.unique(np.clip(starts[:, None] + np.arange(SAMPLE_BLOCK), 0, count - 1))


def _side(audited: Audited) -> Side:
    ledger = audited.auditor.ledger
    return Side(audited.data.name, ledger, audited.auditor.context, np.arange(len(ledger)))


def _splitter(shard: Shard | Shards, spec: SplitSpec | None) -> Callable[[Ledger], Split]:
    def split(ledger: Ledger) -> Split:
        whole = split_shard(shard, spec)
        return Split(names=whole.names[ledger["index"]], mode=whole.mode)

    return split


def _reader(shard: Shard | Shards) -> Callable[[int], Structure | None]:
    def fetch(index: int) -> Structure | None:
        try:
            return shard[index]
        except LamError:
            return None

    return fetch


def _read(data: DataInput) -> Iterator[tuple[int, Atoms | None, LamError | None]]:
    """Yield number, atoms and None of each frame; and, if reading stops, the error."""
    try:
        for number, atoms in read_atoms(data.path):
            yield number, atoms, None
    except LamError as error:  # what follows cannot be read; judge what came before
        yield -1, None, error
