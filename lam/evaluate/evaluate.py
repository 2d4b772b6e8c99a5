"""Errors of a model on labelled data, beside the composition-only baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import lam
from lam.calculators.predictor import Predictor
from lam.errors import LamError
from lam.evaluate.collect import DatasetErrors, ElementTable, energy_block, forces_block, stress_block
from lam.evaluate.metrics import OffsetFit, fit_offsets
from lam.evaluate.report import FORMAT_NAME, FORMAT_VERSION, is_informative, summarise
from lam.evaluate.sources import EvaluationSet, open_data

if TYPE_CHECKING:
    from lam.data.structure import Structure
    from lam.model.potential import Potential

BATCH_ATOMS = 1000
"""Default atoms per batch: full speed on a CPU, and below 1 GB with every preset."""

Progress = Callable[[str, int, int], None]
"""Called with the name of the data set, structures done, structures in all."""


@dataclass
class Evaluation:
    """The report of an evaluation and, for plots, the collected errors behind it."""

    report: dict[str, Any]
    """JSON-able; the fields are described in :mod:`lam.evaluate.report`."""
    errors: dict[str, DatasetErrors] = field(default_factory=dict)
    """Name of the data set -> its errors."""
    baselines: dict[str, OffsetFit] = field(default_factory=dict)
    """Name of the data set -> per-element energies of its composition-only baseline."""


def evaluate(
    model: str | Path | Potential,
    data: str | Path | Sequence[str | Path | EvaluationSet] | EvaluationSet,
    *,
    head: str | None = None,
    split: str | None = None,
    batch_atoms: int = BATCH_ATOMS,
    refit_references: bool | Literal["auto"] = "auto",
    device: str = "auto",
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate ``model`` on ``data``.

    Args:
        model: name or path of a checkpoint, or a potential.
        data: manifests (``.yaml``), shards (``.h5``) or any files that ASE reads; or sets at hand.
        head: the head that predicts. By default the head of the data set's own name, else the first
            default head that covers it.
        split: of manifests: ``"test"`` (default), ``"val"``, ``"train"`` or ``"all"``.
        batch_atoms: largest number of atoms per batch.
        refit_references: report as headline the energy error after fitting a per-element offset to
            the difference of labels and predictions. ``"auto"``: only where the head was not trained
            on the data set, whose level of theory may then have another zero. Both are in the report.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``.
        progress: called now and then.

    Raises:
        LamError: unknown model, head or split; unreadable or empty data; data without any label; no
            structure at all that the heads cover.
    """
    predictor = Predictor(model, device=device)
    if head is not None:
        predictor.model.head_index(head)  # refused before any data is read
    items = [data] if isinstance(data, (str, Path, EvaluationSet)) else list(data)
    sets = [s for item in items for s in ([item] if isinstance(item, EvaluationSet) else open_data(item, split=split))]
    if not sets:
        raise LamError("No data was named to evaluate on.")
    result = Evaluation(report={})
    table, entries = ElementTable(), []
    for name, each in zip(_unique([s.name for s in sets]), sets, strict=True):
        chosen, own = pick_head(predictor.model, each, head)
        errors = collect(predictor, each, chosen, batch_atoms=batch_atoms, name=name, progress=progress)
        refit = not own if refit_references == "auto" else refit_references
        baseline, fitted_to = _baseline(each, errors)
        table.add(errors, refit=refit)
        entries.append(_entry(name, each, errors, chosen, own, refit, baseline, fitted_to))
        result.errors[name] = errors
        if baseline is not None:
            result.baselines[name] = baseline
    if not any(entry["n_structures"] for entry in entries):
        raise _nothing_covered(entries)
    result.report = {
        "format": FORMAT_NAME,
        "format_version": FORMAT_VERSION,
        "lam_version": lam.__version__,
        "model": _model_name(model, predictor.model),
        "datasets": entries,
        "elements": table.to_dict(),
        "summary": summarise(entries),
    }
    return result


def pick_head(model: Potential, data: EvaluationSet, requested: str | None) -> tuple[str, bool]:
    """Return the name of the head to use for ``data``, and whether it was trained on that data set.

    Without a head of its own the data set gets the default one; if that covers not all of its elements,
    the one that covers most of its structures.

    Raises:
        LamError: if ``requested`` is unknown.
    """
    if requested is not None:
        model.head_index(requested)
        return requested, requested == data.name
    if data.name in model.head_names:
        return data.name, True
    compositions = [(frozenset(s.numbers.tolist()), tuple(s.pbc)) for s in data.structures]
    try:  # one head for the whole set: its offset is fitted for one zero of energy
        everything = frozenset().union(*(c for c, _ in compositions))
        index = model.choose_head(everything, [any(any(pbc) for _, pbc in compositions)] * 3)
        return model.head_names[index], False
    except LamError:
        order = dict.fromkeys([*model.default_heads, *model.head_names])
        covered = {name: sum(c <= model.elements(name) for c, _ in compositions) for name in order}
        return max(covered, key=covered.__getitem__), False


def collect(
    predictor: Predictor,
    data: EvaluationSet,
    head: str,
    *,
    batch_atoms: int = BATCH_ATOMS,
    name: str = "",
    progress: Progress | None = None,
) -> DatasetErrors:
    """Predict every structure of ``data`` that ``head`` covers and collect the errors.

    Raises:
        LamError: if there are no structures, or not one label.
    """
    errors = DatasetErrors()
    total = len(data.structures)
    if not total:
        raise LamError(f"{data.name}: the {data.split} split has no structures to evaluate.")
    predictor = Predictor(predictor.model, head=head, device=predictor.device)
    known = predictor.model.elements(head)
    stream = _covered(data.structures, known, errors)
    for structure, prediction in predictor.predict_stream(stream, batch_atoms=batch_atoms):
        errors.add(structure, prediction)
        if progress is not None:
            progress(name or data.name, errors.n_structures + errors.n_skipped, total)
    if errors.n_structures and not (len(errors.energies) or errors.forces.count or errors.stress.count):
        raise LamError(
            f"{data.name}: no structure has an energy, force or stress label to compare with; labels are "
            "read from REF_energy, REF_forces, REF_stress, their plain names, or ASE's results."
        )
    return errors


def _covered(structures: Iterable[Structure], known: set[int], errors: DatasetErrors) -> Iterator[Structure]:
    for structure in structures:
        uncovered = set(structure.numbers.tolist()) - known
        if uncovered:
            errors.skip(uncovered)
        else:
            yield structure


def _baseline(data: EvaluationSet, errors: DatasetErrors) -> tuple[OffsetFit | None, str | None]:
    """Fit composition-only energies: to the training split where there is one, else to the data itself."""
    if not len(errors.energies):
        return None, None
    compositions, energies = errors.energies.composition, errors.energies.arrays[0]
    training = data.training() if data.training is not None else None
    if training is not None and _covers(training.compositions, compositions):
        return fit_offsets(training.compositions, training.energies), "training split"
    fit = fit_offsets(compositions, energies)
    # As many free energies as structures would fit exactly, and say nothing.
    return (fit, "evaluated structures") if fit.n_structures > fit.rank else (None, None)


def _covers(training: np.ndarray, evaluated: np.ndarray) -> bool:
    """Does every element of the evaluated compositions occur in the training ones?"""
    return not (evaluated.any(axis=0) & ~training.any(axis=0)).any()


def _entry(
    name: str,
    data: EvaluationSet,
    errors: DatasetErrors,
    head: str,
    own: bool,
    refit: bool,
    baseline: OffsetFit | None,
    fitted_to: str | None,
) -> dict[str, Any]:
    elements = ElementTable()
    elements.add(errors, refit=refit)
    forces = forces_block(errors)
    return {
        "name": name,
        "source": data.source,
        "head": head,
        "own_head": own,
        "split": data.split,
        "n_structures": errors.n_structures,
        "n_atoms": errors.n_atoms,
        "n_skipped": errors.n_skipped,
        "skipped_elements": errors.skipped_elements,
        "baseline": fitted_to,
        "energy": energy_block(errors, refit=refit, baseline=baseline),
        "forces": forces,
        "stress": stress_block(errors),
        "informative": is_informative(forces),
        "elements": elements.to_dict(),
    }


def _nothing_covered(entries: Sequence[dict[str, Any]]) -> LamError:
    heads = ", ".join(dict.fromkeys(f"'{entry['head']}'" for entry in entries))
    elements = ", ".join(dict.fromkeys(symbol for entry in entries for symbol in entry["skipped_elements"]))
    return LamError(
        f"There is nothing to evaluate: every structure has elements that the head {heads} does not cover "
        f"({elements}). Name another head, or fine-tune the model on data with these elements."
    )


def _unique(names: Sequence[str]) -> list[str]:
    """Tell equal names apart by a number."""
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique


def _model_name(asked: str | Path | Potential, model: Potential) -> str:
    if isinstance(asked, (str, Path)):
        return str(asked)
    return getattr(getattr(model, "metadata", None), "name", None) or "unnamed"
