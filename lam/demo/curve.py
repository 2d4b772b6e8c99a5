"""Error against number of labels: the pretrained model fine-tuned, and the same model from scratch."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import lam
from lam.data.readers import read_structures
from lam.demo.system import first_labels
from lam.evaluate import Evaluation, EvaluationSet, evaluate

if TYPE_CHECKING:
    from lam.data.structure import Structure

NEW_HEAD: Final = "demo-gfn2-xtb"
START_HEAD: Final = "spice-dipeptides-wb97md3"


@dataclass(frozen=True)
class Errors:
    """Mean absolute errors on the test frames, energies after fitting one offset."""

    energy: float
    """meV/atom."""
    force: float
    """meV/Angstrom."""


@dataclass(frozen=True)
class Point:
    """What one number of labels gives."""

    labels: int
    """Number of labelled structures trained on."""
    finetuned: Errors
    """The pretrained model, fine-tuned."""
    scratch: Errors
    """The same model from random weights, the same labels and number of steps."""


@dataclass(frozen=True)
class Curve:
    """The learning curve of the demo."""

    before: Errors
    """The pretrained model without fine-tuning."""
    zero: float
    """Error of predicting zero forces, meV/Angstrom."""
    points: list[Point]
    """By number of labels."""
    models: list[Path]
    """Checkpoints of the fine-tuned models, by number of labels."""
    parity_before: Evaluation
    """The pretrained model on the test frames."""
    parity_after: Evaluation
    """The model of the last point on the test frames."""


def learning_curve(
    model: str,
    labels: Path,
    test: Path,
    out: Path,
    *,
    sizes: tuple[int, ...],
    steps: int,
    learning_rate: float,
    seed: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> Curve:
    """Fine-tune ``model`` on the first n labels for each n of ``sizes``, and train it from scratch.

    Args:
        model: name or path of the pretrained checkpoint.
        labels: file of training labels, well mixed.
        test: file of labels that are never trained on.
        out: folder for the checkpoints ``finetuned-<n>`` and ``scratch-<n>``, and their logs.
        sizes: numbers of labels, ascending.
        steps: optimiser steps of every training.
        learning_rate: peak learning rate of every training.
        seed: of every training.
        tell: called with the name of each stage that begins; ``2 * len(sizes) + 1`` in all.

    Raises:
        LamError: from reading labels or fine-tuning.
    """
    frames = list(read_structures(test))
    heads = lam.load(model).head_names
    head = START_HEAD if START_HEAD in heads else None
    tell("pretrained model")
    before = _on_test(model, frames, head=head)
    points: list[Point] = []
    models: list[Path] = []
    last = before
    for size in sizes:
        subset = first_labels(labels, size)
        errors = {}
        for kind, from_scratch in (("finetuned", False), ("scratch", True)):
            tell(f"{'from scratch' if from_scratch else 'fine-tuned'}, {size} labels")
            target = out / f"{kind}-{size}"
            shutil.rmtree(target, ignore_errors=True)  # of an earlier run
            with _log_to(target.with_suffix(".log")):
                lam.finetune(
                    model, subset, test=test, method="full", out=target, head=head, new_head=NEW_HEAD, steps=steps,
                    seed=seed, from_scratch=from_scratch, learning_rate=learning_rate,
                )  # fmt: skip
            evaluation = _on_test(target, frames, head=NEW_HEAD)
            errors[kind] = errors_of(evaluation)
            if not from_scratch:
                last = evaluation
                models.append(target)
        points.append(Point(size, errors["finetuned"], errors["scratch"]))
    zero = before.report["datasets"][0]["forces"]["baseline_mae"]
    return Curve(errors_of(before), zero, points, models, before, last)


def errors_of(evaluation: Evaluation) -> Errors:
    """Return the headline errors of an evaluation of one data set."""
    entry = evaluation.report["datasets"][0]
    return Errors(energy=entry["energy"]["mae"], force=entry["forces"]["mae"])


def _on_test(model: str | Path, frames: list[Structure], *, head: str | None) -> Evaluation:
    # All are judged alike: after fitting the offset of the energy, which has no meaning for one composition.
    return evaluate(model, EvaluationSet(name="test", structures=frames), head=head, refit_references=True)


@contextlib.contextmanager
def _log_to(path: Path) -> Iterator[None]:
    """Send what the training prints and logs to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as handle:
        handler = logging.StreamHandler(handle)
        root = logging.getLogger()
        root.addHandler(handler)
        try:
            with contextlib.redirect_stdout(handle), contextlib.redirect_stderr(handle):
                yield
        finally:
            root.removeHandler(handler)
