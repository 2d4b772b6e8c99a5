"""From labels to audited shards: a data set for each engine, without labels that cannot be right."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lam.atomic_write import atomic_file
from lam.corpus.pipeline import DATA, LABELS, LICENCE, Corpus, Tell
from lam.corpus.plan import Family
from lam.corpus.sound import find_collapsed, write_without


def leave_out_collapsed(
    corpus: Corpus, families: Sequence[Family], results: dict[str, dict[str, Any]], tell: Tell = print
) -> dict[str, Path]:
    """Return the file of labels of each family without those that are impossibly low, which ``results`` then counts.

    The files of ``lam label`` stay as they are; what is left of those with such labels is in ``labels/sound``.
    """
    files = {family.name: corpus.labels(family.name) for family in families if _labelled(results, family)}
    for engine in sorted({family.engine for family in families}):
        members = {files[f.name]: f.name for f in families if f.engine == engine and f.name in files}
        for file, numbers in find_collapsed(list(members)).items():
            name = members[file]
            files[name] = file.parent / "sound" / file.name
            files[name].parent.mkdir(exist_ok=True)
            write_without(file, files[name], numbers)
            results[name]["labelled"] -= len(numbers)
            results[name]["failures"] = results[name]["failures"] | {"collapsed": len(numbers)}
            tell(f"{name}: {len(numbers)} labels are impossibly low, and left out")
    return files


def _labelled(results: Mapping[str, Mapping[str, Any]], family: Family) -> int:
    return results.get(family.name, {}).get("labelled", 0)


def convert_labels(
    corpus: Corpus, families: Sequence[Family], results: dict[str, dict[str, Any]], files: Mapping[str, Path]
) -> int:
    """Convert the labels of each engine to one data set and audit it; return the exit status of the commands.

    Families of one level of theory become one data set, because every data set gets a head of its own.

    Args:
        corpus: what is made.
        families: of the plan, and in place of what failed.
        results: of :func:`make_labels`.
        files: labels by family, as :func:`leave_out_collapsed` returns them.
    """
    status = 0
    metadata = corpus.folder / LABELS / "metadata.yaml"
    engines = sorted({family.engine for family in families})
    members = {
        engine: [family for family in families if family.engine == engine and _labelled(results, family)]
        for engine in engines
    }
    table: dict[str, Any] = {}
    for engine, labelled in members.items():
        if labelled:
            table[dataset_name(engine)] = {
                "level_of_theory": results[labelled[0].name]["level_of_theory"],
                "licence": LICENCE,
                "source": f"data_prep/corpus.py --structures {corpus.structures} --seed {corpus.seed}",
                "notes": settings_of({family.name: results[family.name] for family in labelled}),
            }
    with atomic_file(metadata) as temporary:
        temporary.write_text(yaml.safe_dump({"datasets": table}, sort_keys=False), encoding="utf-8")
    for engine, labelled in members.items():
        if labelled:
            inputs = [str(files[family.name]) for family in labelled]
            where = ["-o", str(corpus.folder / DATA), "--name", dataset_name(engine), "--metadata", str(metadata)]
            status |= _lam(["data", "convert", *inputs, *where, "--jobs", str(corpus.jobs)])
    return status


def settings_of(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return by which settings of the engine which families were labelled, as one text."""
    families: dict[str, list[str]] = {}
    for name, result in results.items():
        settings = ", ".join(f"{key} {value}" for key, value in sorted(result["settings"].items()))
        limits = f"largest force kept {result['max_force']:g} eV/A, time limit {result['time_limit']:g} s"
        families.setdefault(f"{settings}, {limits}", []).append(name)
    return "; ".join(f"{', '.join(names)}: {settings}" for settings, names in families.items())


def _lam(words: Sequence[str]) -> int:
    """Run a command of ``lam`` in a process of its own, as a person would; return its exit status."""
    sys.stdout.flush()
    return subprocess.run([sys.executable, "-m", "lam", *words], check=False).returncode


def dataset_name(engine: str) -> str:
    """Return the name of the data set, and of the head that learns it."""
    return "corpus-" + engine.replace(":", "-").replace(".", "-")
