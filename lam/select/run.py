"""Choose structures: read them once, keep little of each, choose one after the other, write those that were chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lam.data.split_files import refuse_to_overwrite
from lam.errors import LamError, unknown_name
from lam.select.coverage import Coverage
from lam.select.describe import Described, describe
from lam.select.farthest import NEW_ELEMENT, Farthest
from lam.select.features import Featurizer
from lam.select.greedy import choose
from lam.select.information import Information, rms_norm
from lam.select.output import outputs, write_report, write_structures
from lam.select.pool import ALL, Member, Source, open_pool
from lam.select.report import make_report

if TYPE_CHECKING:
    from lam.data.structure import Structure
    from lam.model.potential import Potential

METHODS = ("coverage", "diversity", "uncertainty", "random")
Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, how many structures it was done for, and for how many it is to be (if known)."""


@dataclass(frozen=True)
class Settings:
    """How structures are chosen."""

    by: str = "coverage"
    """"coverage", "diversity", "uncertainty" or "random"."""
    model: str | Path | Potential = "lam-nano"
    """Name of a shipped model, path of a checkpoint, or a potential."""
    head: str | None = None
    """Head through whose eyes the model looks; by default what all heads have in common."""
    seed: int = 0
    """Of random choice, of displacements, and of what is taken first among equals."""
    part: str = ALL
    """Of the data sets of a manifest: "train", "val", "test" or "all"."""
    device: str = "auto"
    """Where the model computes."""
    batch_atoms: int = 2000
    """Atoms that go through the model together."""


@dataclass(frozen=True)
class Selection:
    """What was chosen, in this order: the first n are the selection of n."""

    members: list[Member]
    """The structures, with everything their files say of them."""
    report: dict[str, Any]
    """What was chosen from what, and how far it covers that (see docs/selection.md)."""
    paths: dict[str, Path]
    """Files that were written: "structures", "report", "plot"; empty if none were asked for."""

    @property
    def structures(self) -> list[Structure]:
        """The structures."""
        return [member.structure for member in self.members]


def select(
    files: str | Path | Sequence[str | Path],
    budget: int,
    out: str | Path | None = None,
    *,
    already: str | Path | Sequence[str | Path] = (),
    settings: Settings | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    **changes: Any,
) -> Selection:
    """Choose ``budget`` structures of a pool.

    Args:
        files: the pool: structure files, shards, manifests, and whatever else ``lam data convert`` reads. Labels are
            not needed. Exact repeats count once.
        budget: how many to choose.
        out: file for the structures (``.extxyz``, also ``.xz``, ``.gz``; or ``.h5``); report and plot go beside it.
        already: what one has: it is not chosen again, and what resembles it comes last.
        settings: how.
        overwrite: replace files that are there.
        progress: called now and then.
        **changes: settings by name, e.g. ``by="uncertainty"``.

    Raises:
        LamError: for data that cannot be read, unknown names, a budget beyond the pool, or outputs that are there;
            nothing is written.
    """
    settings = _settings(settings, changes)
    if budget < 1:
        raise LamError(f"A budget of {budget} chooses nothing; give a number of structures.")
    sources, known = open_pool(_paths(files), part=settings.part), open_pool(_paths(already)) if already else []
    paths = _checked_outputs(out, [*_paths(files), *_paths(already)], overwrite)
    random = settings.by == "random"
    featurizer = None if random else Featurizer(settings.model, head=settings.head, device=settings.device)
    had = _described(known, settings, featurizer, progress, "reading what you have") if known else None
    pool = _described(sources, settings, featurizer, progress, "reading")
    rows = _candidates(pool, had, budget)
    order, worth, curve = _choose(pool, had, rows, budget, settings.by, progress)
    members = _fetch(sources, order)
    report = make_report(sources, pool, had, rows, order, members, worth, curve, settings, featurizer)
    if paths:
        from lam.select.plots import plot_selection

        write_structures(paths["structures"], members, [source.about for source in sources])
        write_report(paths["report"], report)
        plot_selection(paths["plot"], report)
    return Selection(members, report, paths)


def _settings(settings: Settings | None, changes: dict[str, Any]) -> Settings:
    from dataclasses import fields, replace

    for name in changes:
        if name not in (known := [entry.name for entry in fields(Settings)]):
            raise unknown_name("setting of a selection", name, known)
    settings = replace(settings or Settings(), **changes)
    if settings.by not in METHODS:
        raise unknown_name("way to choose", settings.by, METHODS)
    if settings.batch_atoms < 1:
        raise LamError(f"The atoms of a batch must be at least 1, not {settings.batch_atoms}.")
    return settings


def _paths(files: str | Path | Sequence[str | Path]) -> list[Path]:
    return [Path(files)] if isinstance(files, str | Path) else [Path(file) for file in files]


def _checked_outputs(out: str | Path | None, inputs: Sequence[Path], overwrite: bool) -> dict[str, Path]:
    if out is None:
        return {}
    paths = outputs(out)
    if any(path.resolve() == file.resolve() for path in paths.values() for file in inputs):
        raise LamError(f"The output '{out}' is also an input: choose another name.")
    if not overwrite:
        refuse_to_overwrite(list(paths.values()))
    return paths


def _described(
    sources: Sequence[Source], settings: Settings, featurizer: Featurizer | None, progress: Progress | None, what: str
) -> Described:
    sizes = [source.size for source in sources]
    total = None if None in sizes else sum(sizes)

    def seen(count: int) -> None:
        if progress is not None:
            progress(what, count, total)

    return describe(sources, settings.by, featurizer, seed=settings.seed, batch_atoms=settings.batch_atoms, seen=seen)


def _candidates(pool: Described, had: Described | None, budget: int) -> np.ndarray:
    """Return the rows that may be chosen, rising: each structure once, and none that is had already."""
    _, rows = np.unique(pool.keys, return_index=True)
    rows = np.sort(rows)
    different = len(rows)
    if had is not None:
        rows = rows[~np.isin(pool.keys[rows], had.keys)]
    if budget > len(rows):
        repeats = f" different ones ({len(pool)} with repeats)" if different < len(pool) else ""
        mine = f", {different - len(rows)} of which you have" if had is not None and different > len(rows) else ""
        raise LamError(
            f"The budget of {budget} structures is beyond the pool, which has {different}{repeats}{mine}; ask for "
            f"at most {len(rows)}, or name more files."
        )
    return rows


def _choose(
    pool: Described, had: Described | None, rows: np.ndarray, budget: int, by: str, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows in the order in which they are chosen, what each was worth, and what is left after each."""
    by_chance = rows[np.argsort(pool.keys[rows])]
    if by == "random":
        return by_chance[:budget], np.full(budget, np.nan), np.full(budget, np.nan)
    criterion = _criterion(pool, had, by, by_chance)
    left = criterion.left if isinstance(criterion, Coverage) else 0.0

    def taken(count: int) -> None:
        if progress is not None:
            progress("choosing", count, budget)

    order, worth, rest = choose(criterion, pool.keys, budget, candidates=rows, progress=taken)
    if by == "coverage":
        return order, worth, np.sqrt(np.maximum(left - np.cumsum(worth), 0.0))
    curve = np.append(worth[1:], rest)
    if by == "diversity":  # how far it is to what has no environment of its element
        worth, curve = (np.where(values >= NEW_ELEMENT, np.inf, values) for values in (worth, curve))
    return order, worth, curve


def _criterion(
    pool: Described, had: Described | None, by: str, by_chance: np.ndarray
) -> Coverage | Farthest | Information:
    """Return what structures are worth, with what one has accounted for."""
    if by == "uncertainty":
        information = Information(pool.responses, rms_norm(pool.responses))
        for features in had.responses if had is not None else ():
            information.add(features)
        return information
    environments = pool.environments.finish()
    criterion = Farthest(*environments) if by == "diversity" else Coverage(*environments, by_chance)
    if had is not None:
        _, elements, points = had.environments.finish()
        criterion.add(elements, points)
    return criterion


def _fetch(sources: Sequence[Source], order: np.ndarray) -> list[Member]:
    """Read what was chosen, in this order."""
    ends = np.cumsum([source.size for source in sources])
    found: dict[int, Member] = {}
    for number, source in enumerate(sources):
        start = int(ends[number] - source.size)
        own = np.sort(order[(order >= start) & (order < ends[number])]) - start
        if len(own):
            found |= {start + place: member for place, member in source.fetch(own.tolist())}
    return [found[row] for row in order.tolist()]
