"""Does the test know what it should not? The same structure, frame or group on both sides of a split."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from lam.data.audit.check import Check, Context
from lam.data.audit.duplicates import NEAR, SAME, Duplicates, Limits, reach_of, search_keys
from lam.data.audit.finding import EXAMPLES, Finding, few
from lam.data.audit.fingerprint import displacement, mismatch
from lam.data.audit.ledger import Ledger
from lam.data.splits import Split, SplitSpec, assign_splits
from lam.data.structure import ISOLATED_ATOM

MOST_QUERIES = 2000
"""Test structures that are compared; more are sampled evenly."""
NEIGHBOUR_MOVE = 0.3
"""Angstrom: frames whose atoms have all moved less are neighbours of one trajectory, ..."""
NEIGHBOUR_RATIO = 0.4
"""... if two frames taken at random have moved more than this many times farther."""
MANY = 0.05
_HELD_OUT = re.compile(r"(?<![a-z])(test|val|valid|validation|holdout|held[-_]?out|dev|eval)(?![a-z])", re.IGNORECASE)


@dataclass
class Side:
    """One side of a comparison: a data set, or the rows of one split."""

    name: str
    ledger: Ledger
    context: Context
    rows: np.ndarray


class Leakage(Check):
    """Splits of one data set, made as a training makes them."""

    def __init__(self, duplicates: Duplicates) -> None:
        self.duplicates = duplicates

    def judge(self, ledger: Ledger, context: Context) -> Iterator[Finding]:
        """Compare the splits through the duplicates that were found."""
        if not len(ledger):
            return
        split = context.split(ledger) if context.split else default_split(ledger)
        if split.mode == "block":
            text = f"{len(ledger.groups)} group(s) cannot be split as wholes: blocks of frames would be held out"
            why = "held-out frames of a trajectory resemble its other frames: errors look smaller than they are"
            action = "give groups (info['group']) by trajectory or system, or hold out a file of its own"
            yield Finding("note", "groups", text, (), len(ledger), 1.0, why, action)
        pairs = [*self.duplicates.exact, *((p.first, p.second) for p in self.duplicates.pairs)]
        leaks = [(a, b) for a, b in pairs if (split.names[a] == "train") != (split.names[b] == "train")]
        if leaks:
            texts = [f"{ledger.name(b)} ({split.names[b]}) ~ {ledger.name(a)} ({split.names[a]})" for a, b in leaks]
            rows = sorted({a if split.names[a] != "train" else b for a, b in leaks})
            held_out = int((split.names != "train").sum())
            yield Finding(
                "warning" if len(rows) > MANY * held_out else "note",
                "leakage",
                f"{len(rows)} of {held_out} held-out structures are also in training, in the same or nearly the same "
                f"form: {few(texts)}",
                ledger.names(rows),
                len(rows),
                0.95,
                "duplicates and near-duplicates were looked up in the split that a training would make",
                "give such structures one group, or leave the repeats out before splitting",
            )


def default_split(ledger: Ledger, spec: SplitSpec | None = None) -> Split:
    """Divide the structures of a ledger."""
    groups = np.array(list(ledger.groups), dtype=object)[ledger["group"]]
    return assign_splits(groups, spec, ledger.element_counts()[ledger["composition"]])


def compare(train: Side, test: Side, *, sure: bool) -> Iterator[Finding]:
    """Yield what two data sets share: structures, neighbouring frames, groups.

    Args:
        train: what is learned from.
        test: what should be new.
        sure: is it known that one is to test the other? Otherwise this is a guess, and said so.
    """
    rows, partners, distances = _nearest(train, test)
    same, frames, looked = _confirm(train, test, rows, partners, distances)
    sides = f"'{test.name}' and '{train.name}'"
    level = "warning" if sure else "note"
    hedge = "" if sure else " (leakage, if one is to test the other)"
    sampled = f" of {looked} that were looked at" if looked < len(test.rows) else f" of {len(test.rows)}"
    for found, what, why in (
        (same, "are in both, or nearly", f"the surroundings of every atom agree to {NEAR} Angstrom"),
        (frames, "are neighbouring frames of a trajectory", "their atoms have moved less than between most frames"),
    ):
        if found:
            texts = [f"{test.ledger.name(b)} ~ {train.ledger.name(a)} ({d:.3f} A)" for a, b, d in found]
            yield Finding(
                level,
                "leakage",
                f"{sides}: {len(found)}{sampled} structures {what}{hedge}: {few(texts)}",
                test.ledger.names([b for _, b, _ in found]),
                len(found),
                0.95 if found is same else 0.8,
                why,
                "split by trajectory or system (lam splits by info['group']), and leave these out of the test",
            )
    yield from _shared_groups(train, test, sides, level)


def is_held_out(name: str) -> bool:
    """Does the name of a data set say that it is for testing or validation?"""
    return bool(_HELD_OUT.search(name.replace("_", "-")))


def _nearest(train: Side, test: Side) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows of the test, their nearest rows of the training by fingerprint, and the distances over the reach."""
    keys = _common_keys(train, test)
    found: list[tuple[int, int, float]] = []
    step = max(1, -(-len(test.rows) // MOST_QUERIES))
    queries, query_keys = test.rows[::step], keys[1][::step]
    for key in np.unique(query_keys):
        mine, other = queries[query_keys == key], train.rows[keys[0] == key]
        if not len(other):
            continue
        reach = max(reach_of(train.ledger, other, train.context), reach_of(test.ledger, mine, test.context), 1e-12)
        tree = cKDTree(train.ledger["fingerprint"][other])
        apart, place = tree.query(test.ledger["fingerprint"][mine], k=1)
        found += zip(mine.tolist(), other[place].tolist(), (apart / reach).tolist(), strict=True)
    table = np.array(found, dtype=np.float64).reshape(-1, 3)
    return table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2]


def _common_keys(train: Side, test: Side) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers for the rows of both sides: equal where two structures could be the same."""
    names: dict[str, int] = {}
    result = []
    for side in (train, test):
        formulas = [_formula_texts(counts) for counts in side.ledger.counts]
        local = search_keys(side.ledger)[side.rows]
        numbers = np.zeros(len(side.rows), dtype=np.int64)
        for key in np.unique(local):
            members = np.flatnonzero(local == key)
            row = side.rows[members[0]]
            whole, reduced = formulas[int(side.ledger["composition"][row])]
            periodic = int(side.ledger["periodic"][row])
            charge = round(float(np.nan_to_num(side.ledger["charge"][row], nan=0.0)))
            spin = round(float(np.nan_to_num(side.ledger["multiplicity"][row], nan=1.0)))
            text = f"{reduced if periodic == 3 else whole} {periodic} {charge} {spin}"
            numbers[members] = names.setdefault(text, len(names))
        result.append(numbers)
    return result[0], result[1]


def _formula_texts(counts: dict[int, int]) -> tuple[str, str]:
    divisor = int(np.gcd.reduce(list(counts.values())))
    return repr(counts), repr({z: c // divisor for z, c in counts.items()})


def _confirm(
    train: Side, test: Side, rows: np.ndarray, partners: np.ndarray, distances: np.ndarray
) -> tuple[list[tuple[int, int, float]], list[tuple[int, int, float]], int]:
    """Return (train row, test row, Angstrom) of same structures and of neighbouring frames; and the number of tries."""
    same: list[tuple[int, int, float]] = []
    moves: list[tuple[int, int, float]] = []
    typical: dict[int, float] = {}
    limits = Limits(train.ledger, train.context)
    rng = np.random.default_rng(0)
    step = max(1, -(-len(test.rows) // MOST_QUERIES))
    for row, partner, distance in zip(rows.tolist(), partners.tolist(), distances.tolist(), strict=True):
        a = train.context.fetch(int(train.ledger["index"][partner]))
        b = test.context.fetch(int(test.ledger["index"][row]))
        if a is None or b is None or len(b) == 1:
            continue
        if distance <= 1 and ((difference := mismatch(a, b)) <= SAME or difference <= limits.near(partner)):
            same.append((partner, row, difference))
            continue
        moved = displacement(a, b)
        if moved < NEIGHBOUR_MOVE:
            composition = int(test.ledger["composition"][row])
            if composition not in typical:
                typical[composition] = _typical_move(train, partner, rng)
            if moved < NEIGHBOUR_RATIO * typical[composition]:
                moves.append((partner, row, moved))
    return same, moves, len(test.rows[::step])


def _typical_move(side: Side, row: int, rng: np.random.Generator) -> float:
    """Return the median displacement between a structure and others of its composition, Angstrom."""
    alike = side.rows[side.ledger["composition"][side.rows] == side.ledger["composition"][row]]
    alike = rng.choice(alike, size=min(len(alike), 12), replace=False)
    here = side.context.fetch(int(side.ledger["index"][row]))
    moves = []
    for other in alike.tolist():
        there = side.context.fetch(int(side.ledger["index"][other]))
        if other != row and here is not None and there is not None:
            moves.append(min(displacement(here, there), 1e3))
    return float(np.median(moves)) if len(moves) >= 3 else 0.0


def _shared_groups(train: Side, test: Side, sides: str, level: str) -> Iterator[Finding]:
    """Groups with a name of their own (not just the formula) on both sides."""
    names = []
    for side in (train, test):
        own = {list(side.ledger.groups)[number] for number in np.unique(side.ledger["group"][side.rows])}
        formulas = {side.ledger.formula(int(n)) for n in np.unique(side.ledger["composition"][side.rows])}
        names.append({n for n in own if n and n != ISOLATED_ATOM and not _is_formula(n) and n not in formulas})
    shared = sorted(names[0] & names[1])
    if shared:
        text = ", ".join(f"'{name}'" for name in shared[:EXAMPLES]) + (", ..." if len(shared) > EXAMPLES else "")
        yield Finding(
            level,  # type: ignore[arg-type]
            "leakage",
            f"{sides} share {len(shared)} group(s): {text}",
            (),
            len(shared),
            0.6,
            "a group names a trajectory or system, which should be on one side only; it may also name a kind of data",
            "move whole groups to one side, or say more in the groups' names",
        )
    formulas = [{s.ledger.formula(int(n)) for n in np.unique(s.ledger["composition"][s.rows])} for s in (train, test)]
    common = formulas[0] & formulas[1]
    if common:
        share = len(common) / len(formulas[1])
        yield Finding(
            "note",
            "leakage",
            f"{sides}: {len(common)} of {len(formulas[1])} compositions of the former are in the latter, too",
            (),
            len(common),
            1.0,
            f"{share:.0%} of the compositions; errors then tell of new configurations, not of new compounds",
            "",
        )


def _is_formula(text: str) -> bool:
    return bool(re.fullmatch(r"([A-Z][a-z]?\d*)+", text))
