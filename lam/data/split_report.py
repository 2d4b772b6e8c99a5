"""What a split came to: what is in each part, what the parts share, and why it is not what was asked for.

What the parts share is counted over all structures; whether structures on both sides resemble each other is asked of
:mod:`lam.data.audit`. Used by `lam data split`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols

from lam.data.audit import Finding, examine
from lam.data.audit.leakage import MOST_QUERIES, Side, compare
from lam.data.shards import Shard
from lam.data.split_keys import formula_keys
from lam.data.splits import LEAST, MOST, SPLITS, Split, SplitSpec
from lam.data.stream_splits import CodedSplit
from lam.data.structure import ISOLATED_ATOM, MAX_ATOMIC_NUMBER

if TYPE_CHECKING:
    from lam.data.describe import DataInput
    from lam.data.shard_folder import Shards

KINDS = ("group", "composition", "prototype")


@dataclass(frozen=True)
class Part:
    """Contents of train, val or test."""

    name: str
    structures: int
    atoms: int
    groups: int
    compositions: int
    prototypes: int
    elements: list[str]
    largest: int
    """Atoms of the largest structure."""


@dataclass(frozen=True)
class SplitReport:
    """What is in the parts of one data set."""

    name: str
    mode: str
    """As in :class:`~lam.data.splits.Split`."""
    parts: list[Part]
    shared: dict[str, int]
    """How many groups, compositions and prototypes are on more than one side; isolated atoms do not count."""
    unseen: list[str]
    """Elements that are held out, and not trained on."""
    remarks: list[str] = field(default_factory=list)
    """What came otherwise than asked for, and why."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def summarize(
    name: str, blocks: Iterable[tuple[np.ndarray, np.ndarray]], split: Split | CodedSplit, spec: SplitSpec
) -> SplitReport:
    """Count what is in each part.

    Args:
        name: of the data set.
        blocks: (s,) groups and (s, 119) compositions of all structures, in order, in pieces.
        split: of all structures.
        spec: what was asked for.
    """
    keys: dict[str, list[set[str]]] = {kind: [set() for _ in SPLITS] for kind in KINDS}
    elements = np.zeros((len(SPLITS), MAX_ATOMIC_NUMBER + 1), dtype=bool)
    atoms, largest = np.zeros(len(SPLITS), dtype=np.int64), np.zeros(len(SPLITS), dtype=np.int64)
    sizes: dict[str, int] = {}
    first = 0
    codes = _codes(split)
    for groups, compositions in blocks:
        groups = np.asarray(groups, dtype=object).astype(str)
        here = codes[first : first + len(groups)]
        first += len(groups)
        free = groups != ISOLATED_ATOM
        for group, count in zip(*np.unique(groups[free], return_counts=True), strict=True):
            sizes[str(group)] = sizes.get(str(group), 0) + int(count)
        of_rows = {"group": groups}
        for kind in KINDS[1:]:
            texts, own = formula_keys(compositions, kind)
            of_rows[kind] = np.array(texts, dtype=object)[own]
        for number in range(len(SPLITS)):
            rows = here == number
            for kind in KINDS:
                keys[kind][number].update(np.unique(of_rows[kind][rows & free].astype(str)).tolist())
            elements[number] |= (compositions[rows] > 0).any(axis=0)
            n_atoms = compositions[rows].sum(axis=1)
            atoms[number] += n_atoms.sum()
            largest[number] = max(largest[number], n_atoms.max(initial=0))
    counts = split.counts()
    parts = [
        Part(
            part,
            counts[part],
            int(atoms[number]),
            *(len(keys[kind][number]) for kind in KINDS),
            _symbols(elements[number]),
            int(largest[number]),
        )
        for number, part in enumerate(SPLITS)
    ]
    shared = {kind: len(_on_several_sides(keys[kind])) for kind in KINDS}
    unseen = _symbols(elements[1:].any(axis=0) & ~elements[0])
    return SplitReport(name, split.mode, parts, shared, unseen, _remarks(counts, sizes, split.mode, spec))


def blocks_of(shard: Shard | Shards) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Yield groups and compositions of a shard, or of one shard of a folder after the other."""
    return ((piece.groups, piece.compositions()) for piece in shard.pieces())


def leaks(
    data: DataInput, split: Split | CodedSplit, *, sample: int | None = None
) -> tuple[list[Finding], dict[str, int]]:
    """Audit a data set, and compare its parts: structures in two of them, neighbouring frames, groups.

    Args:
        data: shard, folder of shards or structure file.
        split: of all its structures.
        sample: look at this many structures of a shard, in blocks spread evenly; at all by default.

    Returns:
        What the parts share, the suspicious first; and how many structures of each part were looked at: of val and
        test at most MOST_QUERIES, evenly.
    """
    auditor = examine(data, sample=sample).auditor
    codes = _codes(split)[auditor.ledger["index"]]
    sides = {
        part: Side(part, auditor.ledger, auditor.context, np.flatnonzero(codes == number))
        for number, part in enumerate(SPLITS)
    }
    found: list[Finding] = []
    for old, new in (("train", "test"), ("train", "val"), ("val", "test")):
        if len(sides[old].rows) and len(sides[new].rows):
            found += compare(sides[old], sides[new], sure=True)
    found.sort(key=lambda finding: not finding.suspicious)
    looked = {part: len(side.rows) for part, side in sides.items()}
    for part in SPLITS[1:]:  # every so many of them, as the comparison takes them
        looked[part] = -(-looked[part] // max(1, -(-looked[part] // MOST_QUERIES)))
    return found, looked


def _codes(split: Split | CodedSplit) -> np.ndarray:
    """Return the index of each structure's part, (S,) uint8: names would take 20 bytes each."""
    if isinstance(split, CodedSplit):
        return split.codes
    return sum((np.uint8(code) * (split.names == name) for code, name in enumerate(SPLITS)), np.uint8(0))


def _on_several_sides(sets: list[set[str]]) -> set[str]:
    train, val, test = sets
    return (train & val) | (train & test) | (val & test)


def _symbols(present: np.ndarray) -> list[str]:
    return [chemical_symbols[z] for z in np.flatnonzero(present)]


def _remarks(counts: dict[str, int], sizes: dict[str, int], mode: str, spec: SplitSpec) -> list[str]:
    """Say what came otherwise than asked for."""
    total = sum(sizes.values())
    remarks = []
    if spec.by == "group" and mode == "block" and sizes:
        largest = max(sizes, key=lambda group: (sizes[group], group))
        remarks.append(
            f"blocks of frames are held out instead of groups: there are {len(sizes)} group(s), the largest "
            f"('{largest}') with {sizes[largest] / total:.0%} of the structures; whole groups between "
            f"{LEAST * spec.test:.1%} and {MOST * spec.test:.1%} of them, whose elements occur elsewhere, cannot be had"
        )
    if spec.by in ("element", "size") and not counts["test"]:
        what = f"has more than {spec.max_atoms} atoms" if spec.by == "size" else f"has {' or '.join(spec.elements)}"
        remarks.append(f"nothing is held out for the test: no structure {what}")
    if spec.val > 0 and not counts["val"] and total:
        remarks.append(f"the validation set is empty: nothing that is whole makes up {spec.val:.1%} without straddling")
    return remarks
