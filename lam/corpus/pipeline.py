"""From a number and a seed to audited shards: structures, dynamics, labels, conversion. What is finished is kept.

Folder: ``plan.json``, ``structures/*.extxyz``, ``labels/*.extxyz.gz`` (with journals of unfinished runs),
``data/manifest.yaml`` with a data set for each engine, ``report/``.
"""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from ase import Atoms
from ase.io.extxyz import read_xyz, write_xyz

from lam.atomic_write import atomic_file
from lam.corpus.coverage import Coverage
from lam.corpus.dynamics import Start, choose_starts, run_dynamics
from lam.corpus.plan import DYNAMICS, Family, build_family, counts, select_families, shares_of
from lam.corpus.sample import fingerprint
from lam.errors import LamError

VERSION = 1
"""Raised when the same seed gives other structures."""
PLAN, STRUCTURES, LABELS, DATA = "plan.json", "structures", "labels", "data"
LICENCE = "CC0-1.0"
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

    @property
    def families(self) -> tuple[Family, ...]:
        """The families, in the order in which they are built."""
        families = select_families(self.periodic)
        if self.engine is None:
            return families
        return tuple(replace(family, engine=self.engine, options=self.options) for family in families)

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
    identity = {"version": VERSION, "seed": corpus.seed, "structures": corpus.structures, "periodic": corpus.periodic}
    path = corpus.folder / PLAN
    plan: dict[str, Any] = identity | {"families": {}}
    if path.exists():
        plan = json.loads(path.read_text(encoding="utf-8"))
        if {key: plan.get(key) for key in identity} != identity:
            raise LamError(
                f"'{corpus.folder}' holds a corpus with another seed, number or version: choose a new folder."
            )
    coverage = Coverage()
    for family in corpus.families:
        file, known = corpus.file(family.name), plan["families"].get(family.name)
        if known and file.is_file():
            for atoms in read_frames(file):
                coverage.add(atoms.numbers)
            continue
        built = build_family(family, wanted[family.name], corpus.seed, coverage)
        write_frames(file, built.frames)
        sizes = [len(atoms) for atoms in built.frames]
        plan["families"][family.name] = {
            "structures": len(built.frames),
            "atoms": sum(sizes),
            "largest": max(sizes),
            "rejected": built.rejected,
            "fingerprint": built.fingerprint,
        }
        _write_json(path, plan)
        tell(f"{family.name}: {len(sizes)} structures, {sum(sizes)} atoms, {built.fingerprint}")
    if plan.get("coverage") != coverage.to_dict():
        plan["coverage"] = coverage.to_dict()
        _write_json(path, plan)
    return plan


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
        sources = [family for family in select_families(False) if family.engine == method]
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


def make_labels(corpus: Corpus, families: Sequence[Family], tell: Tell = print) -> dict[str, dict[str, Any]]:
    """Label every family, going on where an earlier run stopped; return what came of each."""
    from lam.label.run import Settings, label

    results: dict[str, dict[str, Any]] = {}
    for family in families:
        out = corpus.labels(family.name)
        record = out.with_name(f"{family.name}.result.json")
        if record.is_file():
            results[family.name] = json.loads(record.read_text(encoding="utf-8"))
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
        begun = (out.parent / f"{out.name}.run").is_dir() or out.exists()
        report = label([corpus.file(family.name)], out, settings, resume=begun)
        results[family.name] = {
            "engine": family.engine,
            "level_of_theory": report.level_of_theory,
            "structures": report.total,
            "labelled": report.labelled,
            "failures": report.failures,
            "calculated": report.calculated,
            "seconds": round(report.seconds, 2),
            "jobs": corpus.jobs,
        }
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


def _lam(words: Sequence[str]) -> int:
    """Run a command of ``lam`` in a process of its own, as a person would; return its exit status."""
    sys.stdout.flush()
    return subprocess.run([sys.executable, "-m", "lam", *words], check=False).returncode


def convert_labels(corpus: Corpus, families: Sequence[Family], results: dict[str, dict[str, Any]]) -> int:
    """Convert the labels of each engine to one data set and audit it; return the exit status of the commands.

    Families of one level of theory become one data set, because every data set gets a head of its own.
    """
    status = 0
    metadata = corpus.folder / LABELS / "metadata.yaml"
    engines = sorted({family.engine for family in families})
    members = {
        engine: [f for f in families if f.engine == engine and results[f.name]["labelled"]] for engine in engines
    }
    table: dict[str, Any] = {}
    for engine, labelled in members.items():
        if labelled:
            table[dataset_name(engine)] = {
                "level_of_theory": results[labelled[0].name]["level_of_theory"],
                "licence": LICENCE,
                "source": f"data_prep/corpus.py --structures {corpus.structures} --seed {corpus.seed}",
            }
    with atomic_file(metadata) as temporary:
        temporary.write_text(yaml.safe_dump({"datasets": table}, sort_keys=False), encoding="utf-8")
    for engine, labelled in members.items():
        if labelled:
            files = [str(corpus.labels(family.name)) for family in labelled]
            where = ["-o", str(corpus.folder / DATA), "--name", dataset_name(engine), "--metadata", str(metadata)]
            status |= _lam(["data", "convert", *files, *where, "--jobs", str(corpus.jobs)])
    return status


def dataset_name(engine: str) -> str:
    """Return the name of the data set, and of the head that learns it."""
    return "corpus-" + engine.replace(":", "-").replace(".", "-")


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
    plan = json.loads((corpus.folder / PLAN).read_text(encoding="utf-8"))
    return [
        name
        for name, known in plan["families"].items()
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
