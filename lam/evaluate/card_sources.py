"""What a model card is made of, and how it is read or measured."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lam.checkpoint import CheckpointMetadata, load_checkpoint
from lam.errors import LamError, LamWarning
from lam.evaluate.report import FORMAT_NAME, FORMAT_VERSION

Domains = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Card:
    """What a card is made of."""

    metadata: CheckpointMetadata
    report: dict[str, Any]
    notes: str
    cost: Mapping[str, str]
    physics: Sequence[tuple[str, str]] = ()
    """Checks with their results (see :func:`physics_checks`); empty if they were not run."""
    domains: Domains = field(default_factory=dict)
    """Domain -> names of its data sets."""


def read_report(path: str | Path) -> dict[str, Any]:
    """Read the report of an evaluation.

    Raises:
        LamError: if it is missing, damaged, of another kind or too new.
    """
    path = Path(path)
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LamError(f"There is no report '{path}'; make it with: lam eval MODEL DATA -o FOLDER.") from None
    except ValueError as error:
        raise LamError(f"'{path}' is damaged: it is not valid JSON ({error}).") from None
    if not isinstance(report, dict) or report.get("format") != FORMAT_NAME:
        raise LamError(f"'{path}' is no report of lam eval.")
    if report["format_version"] > FORMAT_VERSION:
        raise LamError(f"'{path}' was written by a newer lam (format {report['format_version']}); update lam.")
    return report


def physics_checks(model: str | Path) -> list[tuple[str, str]]:
    """Run the checks of :class:`lam.testing.PotentialPhysicsTests`; return (check, "holds" or what fails)."""
    from lam.testing import PotentialPhysicsTests

    potential, _ = load_checkpoint(model)

    class Checks(PotentialPhysicsTests):
        charge_matters = False  # a model may have seen neutral structures only

        def make_potential(self) -> Any:
            return potential

    results, suite = [], Checks()
    for name in sorted(name for name in dir(suite) if name.startswith("test_")):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", LamWarning)  # atoms overlap on purpose
                getattr(suite, name)()
            outcome = "holds"
        except AssertionError as error:
            outcome = "FAILS: " + (str(error).splitlines() or [""])[0]
        results.append((name.removeprefix("test_").replace("_", " "), outcome))
    return results
