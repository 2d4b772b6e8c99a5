"""Which structure is labelled next, and which must wait until the cell of its kind has proved extensive."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

from lam.data.shards import Shard
from lam.data.structure import Structure
from lam.label.engines import Engine, Refused
from lam.label.folder import Done
from lam.label.periodic import CheckMode, doubtful_directions, family, refuse_small_cell
from lam.label.tasks import Item, Outcome

Verdict = tuple[str, str, str]
"""Key, kind of failure and reason of a structure that needs no calculation to fail."""


class Schedule:
    """Hands out the structures that have no result yet, in an order that has nothing to do with their size.

    The order is that of their keys, which are digests: after an hour of ten the labels so far are a fair sample of
    all, and the time to go can be told from them.

    Args:
        shard: the structures.
        keys: of its rows.
        done: results of earlier runs, by key.
        engine: asked whether it is sound for each structure.
        mode: whether cells are checked for extensivity.
    """

    def __init__(
        self, shard: Shard, keys: Sequence[str], done: dict[str, Done], engine: Engine, mode: CheckMode
    ) -> None:
        self._shard, self._keys, self._engine, self._mode = shard, keys, engine, mode
        self._rows = deque(sorted((row for row, key in enumerate(keys) if key not in done), key=keys.__getitem__))
        self._verdicts: dict[str, str] = {}  # family -> reason why it is not extensive, or "" if it is
        self._probes: dict[str, str] = {}  # key of a structure under way -> family it is checked for
        self._waiting: dict[str, list[int]] = {}
        self._refused: deque[Verdict] = deque()
        # Labelling costs something between the second and third power of the size.
        self._work = dict(zip(keys, (shard.n_atoms.astype(np.float64) ** 2).tolist(), strict=True))
        self.todo = sum(self._work[keys[row]] for row in self._rows)
        """Work that is left, in arbitrary units."""
        if mode == "auto" and engine.gamma_only:
            self._learn(done)

    @property
    def count(self) -> int:
        """Structures that have not been handed out."""
        return len(self._rows) + sum(map(len, self._waiting.values()))

    def take(self, count: int) -> list[Item]:
        """Return up to ``count`` structures to label; a check of extensivity comes alone. Empty: none for now."""
        items: list[Item] = []
        while self._rows and len(items) < count:
            row = self._rows.popleft()
            item = self._item(row, self._shard[row])
            if item is None:
                continue
            if item.probe and items:  # it takes long: a task of its own
                self._rows.appendleft(row)
                self._probes.pop(item.key, None)
                break
            items.append(item)
            if item.probe:
                break
        return items

    def refused(self) -> Iterator[Verdict]:
        """Yield those that failed without a calculation since the last call."""
        while self._refused:
            yield self._refused.popleft()

    def finish(self, outcome: Outcome) -> None:
        """Note a result; frees or refuses those that waited for it."""
        self.todo -= self._work[outcome.key]
        name = self._probes.pop(outcome.key, None)
        if name is None:
            return
        waiting = self._waiting.pop(name, [])
        if outcome.kind in ("", "not extensive"):
            self._verdicts[name] = outcome.kind and self._shard.source_of(self._keys.index(outcome.key))
        # If the probe failed for another reason, the next of its kind is checked instead.
        self._rows.extendleft(reversed(waiting))

    def _item(self, row: int, structure: Structure) -> Item | None:
        key, engine = self._keys[row], self._engine
        try:
            engine.check(structure)
            if engine.gamma_only:
                refuse_small_cell(structure, engine.name)
        except Refused as error:
            return self._refuse(key, "refused", str(error))
        if not engine.gamma_only or not doubtful_directions(structure, self._mode):
            return Item(key, structure)
        if self._mode == "always":
            return Item(key, structure, probe=True)
        name = family(structure)
        verdict = self._verdicts.get(name)
        if verdict == "":
            return Item(key, structure)
        if verdict is not None:
            reason = f"{structure.where}: its cell is like that of {verdict}, which is too small for the Gamma point."
            return self._refuse(key, "not extensive", reason)
        if name in self._probes.values():
            self._waiting.setdefault(name, []).append(row)
            return None
        self._probes[key] = name
        return Item(key, structure, probe=True, family=name)

    def _refuse(self, key: str, kind: str, reason: str) -> None:
        self.todo -= self._work[key]
        self._refused.append((key, kind, reason))

    def _learn(self, done: dict[str, Done]) -> None:
        """Take over what earlier runs found out about families, also by structures that are not asked for now."""
        for entry in done.values():
            if entry.family is not None and entry.kind in ("", "not extensive"):
                self._verdicts[entry.family] = entry.kind and "one of an earlier run"
