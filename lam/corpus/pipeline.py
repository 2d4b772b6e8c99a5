"""From a number and a seed to audited shards: structures, dynamics, labels, conversion. What is finished is kept.

Folder: ``plan.json``, ``structures/*.extxyz``, ``labels/*.extxyz.gz`` (with journals of unfinished runs),
``data/manifest.yaml`` with a data set for each engine, ``report/``.
"""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.io.extxyz import read_xyz, write_xyz

from lam.atomic_write import atomic_file
from lam.corpus.coverage import Coverage
from lam.corpus.dynamics import Start, choose_starts, run_dynamics
from lam.corpus.plan import DYNAMICS, Built, Family, build_family, counts, select_families, shares_of
from lam.corpus.refill import FIXED, build_refill, lost_labels, refill_name
from lam.corpus.sample import fingerprint
from lam.errors import LamError
from lam.label.engine_gpaw import WITHOUT_SETUP

VERSION = 2
"""Raised when the same seed gives other structures."""
PLAN, STRUCTURES, LABELS, DATA = "plan.json", "structures", "labels", "data"
LICENCE = "CC0-1.0"
SLOW = ("droplets", "liquids", "adsorbates", "clusters")
"""Families that are labelled last: they take most of the time, and a run that is stopped shall have all others."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Corpus:
    """What is to be made, and where."""

    folder: Path
    structures: int
    """In all; the one number that sets the scale."""
    seed: int = 0
    periodic: bool = False
    """Small periodic cells for engines with k-points instead of finite systems."""
    jobs: int = 1
    engine: str | None = None
    """Of all families, instead of their own."""
    options: tuple[tuple[str, Any], ...] = ()
    """Settings of that engine."""
    max_atoms: int | None = None
    """Of periodic cells; families that need more are left out."""
    names: tuple[str, ...] = ()
    """Of families; all where none is named."""
    time_limit: float | None = None
    """Seconds for one calculation, instead of the families' own."""
    excluded: tuple[int, ...] = ()
    """Atomic numbers that are not wanted."""

    @property
    def families(self) -> tuple[Family, ...]:
        """The families, in the order in which they are built."""
        return tuple(map(self._adapted, select_families(self.periodic, self.names, self.max_atoms)))

    @property
    def without(self) -> list[int]:
        """Atomic numbers that are never chosen: not wanted, or the engine has nothing for them."""
        missing = WITHOUT_SETUP if {family.engine for family in self.families} == {"gpaw"} else ()
        return sorted({*self.excluded, *missing})

    @property
    def identity(self) -> dict[str, Any]:
        """What the structures depend on."""
        known: dict[str, Any] = {"version": VERSION, "seed": self.seed, "structures": self.structures}
        known |= {"periodic": self.periodic, "families_chosen": list(self.names)}
        return known | {"max_atoms": self.max_atoms, "without": self.without}

    def _adapted(self, family: Family) -> Family:
        if self.engine is not None:
            family = replace(family, engine=self.engine, options=self.options)
        return family if self.time_limit is None else replace(family, time_limit=self.time_limit)

    def file(self, family: str) -> Path:
        """Return the structures of a family."""
        return self.folder / STRUCTURES / f"{family}.extxyz"

    def labels(self, family: str) -> Path:
        """Return the labels of a family."""
        return self.folder / LABELS / f"{family}.extxyz.gz"


def make_structures(corpus: Corpus, tell: Tell = print) -> dict[str, Any]:
    """Build all families that are not there yet; return the plan, as written to ``plan.json``.

    Raises:
        LamError: if the folder holds another plan.
    """
    wanted = counts(corpus.structures, shares_of(corpus.families))
    path = corpus.folder / PLAN
    plan: dict[str, Any] = corpus.identity | {"families": {}}
    if path.exists():
        plan = json.loads(path.read_text(encoding="utf-8"))
        if {key: plan.get(key) for key in corpus.identity} != corpus.identity:
            raise LamError(
                f"'{corpus.folder}' holds a corpus with another seed, number, choice or version: choose a new folder."
            )
    coverage = Coverage(corpus.without)
    for family in corpus.families:
        file, known = corpus.file(family.name), plan["families"].get(family.name)
        if known and file.is_file():
            for atoms in read_frames(file):
                coverage.add(atoms.numbers)
            continue
        _keep(corpus, plan, build_family(family, wanted[family.name], corpus.seed, coverage), tell)
    if plan.get("coverage") != coverage.to_dict():
        plan["coverage"] = coverage.to_dict()
        _write_json(path, plan)
    return plan


def _keep(corpus: Corpus, plan: dict[str, Any], built: Built, tell: Tell) -> None:
    """Write the structures of a family, and into the plan what they are."""
    write_frames(corpus.file(built.family.name), built.frames)
    sizes = [len(atoms) for atoms in built.frames]
    plan["families"][built.family.name] = {
        "structures": len(built.frames),
        "atoms": sum(sizes),
        "largest": max(sizes),
        "rejected": built.rejected,
        "fingerprint": built.fingerprint,
    }
    _write_json(corpus.folder / PLAN, plan)
    tell(f"{built.family.name}: {len(sizes)} structures, {sum(sizes)} atoms, {built.fingerprint}")


def make_refills(corpus: Corpus, number: int, results: dict[str, dict[str, Any]], tell: Tell = print) -> list[Family]:
    """Build structures in place of those without a label, by what the labels cover; return their families.

    Args:
        corpus: what is made.
        number: of the round, from 1.
        results: of :func:`make_labels` for everything before this round.
        tell: is called with one line for each family.
    """
    plan = read_plan(corpus)
    labelled = Coverage(corpus.without)
    for name, result in results.items():
        if result["labelled"]:
            count_labelled(corpus.labels(name), labelled)
    families = []
    for family in corpus.families:
        lost = 0 if family.name in FIXED else lost_labels(family.name, number, results)
        if not lost:
            continue
        name = refill_name(family.name, number)
        families.append(replace(family, name=name, origin=family.name))
        if name in plan["families"] and corpus.file(name).is_file():
            for atoms in read_frames(corpus.file(name)):
                labelled.add(atoms.numbers)
        else:
            _keep(corpus, plan, build_refill(family, number, lost, corpus.seed, labelled), tell)
    return families


def make_dynamics(corpus: Corpus, tell: Tell = print) -> list[Family]:
    """Run the trajectories that are not there yet; return a family of structures for each engine.

    Every trajectory is a file of its own until all are there, so that a stopped run goes on. Another version of the
    engine, or processor, gives other frames: unlike the plan they are not the same everywhere.
    """
    if corpus.periodic:
        return []
    wanted = counts(corpus.structures, shares_of(corpus.families))
    families = []
    for name in DYNAMICS:
        method = name.rpartition("-")[2]
        engine = corpus.engine or method
        sources = [family for family in select_families(False, corpus.names) if family.engine == method]
        if not sources:
            continue
        families.append(Family(name, sources[0].make, DYNAMICS[name], engine, options=corpus.options))
        target = corpus.file(name)
        if target.is_file():
            continue
        frames = [atoms for family in sources for atoms in read_frames(corpus.file(family.name))]
        starts = choose_starts(frames, wanted[name], corpus.seed, name)
        folder = corpus.folder / STRUCTURES / f"{name}.run"
        left = [start for start in starts if not (folder / f"{start.name}.json").is_file()]
        jobs = [(left[i :: corpus.jobs], folder, engine, dict(corpus.options), name) for i in range(corpus.jobs)]
        if corpus.jobs == 1:
            _trajectories(*jobs[0])
        elif left:
            spawn = multiprocessing.get_context("spawn")  # threads of this process do not survive a fork
            with concurrent.futures.ProcessPoolExecutor(corpus.jobs, mp_context=spawn) as pool:
                list(pool.map(_trajectories, *zip(*jobs, strict=True)))
        collected: list[Atoms] = []
        ends: dict[str, int] = {}
        for start in starts:
            why = json.loads((folder / f"{start.name}.json").read_text(encoding="utf-8"))["end"]
            ends[why or "complete"] = ends.get(why or "complete", 0) + 1
            if (folder / f"{start.name}.extxyz").is_file():
                collected += read_frames(folder / f"{start.name}.extxyz")
        if collected:
            write_frames(target, collected[: wanted[name]])
        tell(f"{name}: {len(collected[: wanted[name]])} structures of {len(starts)} trajectories, {ends}")
    return [family for family in families if corpus.file(family.name).is_file()]


def _trajectories(starts: Sequence[Start], folder: Path, engine: str, options: dict[str, Any], family: str) -> None:
    from lam.label.killable import KillableEngine

    killable = KillableEngine(engine, options)
    try:
        for start in starts:
            frames, end = run_dynamics(start, killable, family, time_limit=20.0)
            if frames:
                write_frames(folder / f"{start.name}.extxyz", frames)
            _write_json(folder / f"{start.name}.json", {"end": end, "frames": len(frames)})
    finally:
        killable.close()


def make_labels(
    corpus: Corpus, families: Sequence[Family], tell: Tell = print, *, collect: bool = False
) -> dict[str, dict[str, Any]]:
    """Label every family, going on where an earlier run stopped; return what came of each.

    Args:
        corpus: what is made.
        families: which.
        tell: is called with a line for each family.
        collect: calculate nothing, write what there is; families that were not begun have no result then.
    """
    from lam.label.engines import make_engine
    from lam.label.run import Settings, label

    results: dict[str, dict[str, Any]] = {}
    for family in sorted(families, key=lambda family: family.name.startswith(SLOW)):
        out = corpus.labels(family.name)
        record = out.with_name(f"{family.name}.result.json")
        if record.is_file():
            results[family.name] = json.loads(record.read_text(encoding="utf-8"))
            continue
        begun = (out.parent / f"{out.name}.run").is_dir() or out.exists()
        if collect and not begun:
            continue
        settings = Settings(
            engine=family.engine,
            options=dict(family.options),
            licence=LICENCE,
            jobs=corpus.jobs,
            time_limit=family.time_limit,
            max_force=family.max_force,
        )
        tell(command(corpus, family))
        out.parent.mkdir(parents=True, exist_ok=True)
        report = label([corpus.file(family.name)], out, settings, resume=begun and not collect, collect_only=collect)
        done = report.labelled + sum(report.failures.values())
        results[family.name] = {
            "engine": family.engine,
            "settings": make_engine(family.engine, dict(family.options)).settings,
            "max_force": family.max_force,
            "time_limit": family.time_limit,
            "level_of_theory": report.level_of_theory,
            "structures": done,
            "not_calculated": report.total - done,
            "labelled": report.labelled,
            "failures": report.failures,
            "calculated": report.calculated,
            "seconds": round(report.seconds, 2),
            "jobs": corpus.jobs,
        }
        if done == report.total:  # else the run may go on
            _write_json(record, results[family.name])
        tell(
            f"{family.name}: {report.labelled} of {report.total} labelled in {report.seconds:.0f} s, {report.failures}"
        )
    return results


def command(corpus: Corpus, family: Family) -> str:
    """Return the command line that labels a family."""
    options = "".join(f" --option {key}={value}" for key, value in family.options)
    return (
        f"lam label {corpus.file(family.name)} -o {corpus.labels(family.name)} --engine {family.engine}{options} "
        f"--jobs {corpus.jobs} --time-limit {family.time_limit:g} --max-force {family.max_force:g} --licence {LICENCE}"
    )


def read_plan(corpus: Corpus) -> dict[str, Any]:
    """Return what ``plan.json`` holds."""
    return json.loads((corpus.folder / PLAN).read_text(encoding="utf-8"))


def read_frames(path: Path) -> list[Atoms]:
    """Read what :func:`write_frames` wrote."""
    with open(path, encoding="utf-8") as file:
        return list(read_xyz(file, index=slice(None)))


def write_frames(path: Path, frames: Sequence[Atoms]) -> None:
    """Write structures as extended XYZ, whole or not at all."""
    with atomic_file(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        write_xyz(file, list(frames))


def verify(corpus: Corpus) -> list[str]:
    """Return the families whose files are not what the plan says (changed, or by another version)."""
    return [
        name
        for name, known in read_plan(corpus)["families"].items()
        if fingerprint(read_frames(corpus.file(name))) != known["fingerprint"]
    ]


def _write_json(path: Path, value: Any) -> None:
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def count_labelled(path: Path, coverage: Coverage) -> None:
    """Count the structures of a file of labels."""
    from lam.data.readers import read_atoms

    for _, atoms in read_atoms(path):
        coverage.add(atoms.numbers)
