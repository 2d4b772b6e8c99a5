"""The report of an evaluation: documented fields, a summary, and the file that holds it.

Layout (``format_version`` 1). Every number is an MAE or RMSE in the ``unit`` beside it, or ``None``::

    model, lam_version       what was evaluated, with what
    datasets[]               one entry per data set
      name, source           the data set; the file(s) it was read from
      head, own_head         the head that predicted; was it trained on this data set?
      split                  "test", "val", "train", or "all" where the data has no splits
      n_structures, n_atoms  evaluated
      n_skipped              structures with elements that the head does not cover (not evaluated)
      skipped_elements       element -> number of skipped structures because of it
      baseline               what the composition-only energies were fitted to: "training split" or
                             "evaluated structures"
      energy                 per atom: mae, rmse (after refitting where refitted is true), raw_*,
                             refitted_*, refit_rank (number of offsets), baseline_*, ratio_*, n;
                             rmse_per_structure: of the total energies, meV
      forces, stress         per component: mae, rmse, baseline_* (of predicting zero), ratio_*, n;
                             None without labels
      informative            is the mean absolute force component above the threshold?
      elements               element -> errors within this data set
    elements                 the same over all data sets
    summary                  median force ratio over informative sets, sets better than the baseline,
                             and the sets apart: near-relaxed ones, where zero is hard to beat
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from lam.atomic_write import atomic_file

FORMAT_NAME: Final = "lam-evaluation"
FORMAT_VERSION: Final = 1
FORCE_THRESHOLD: Final = 50.0
"""Mean absolute force component, meV/A, above which predicting zero forces is a fair baseline."""
REPORT_FILE: Final = "report.json"


def is_informative(forces: dict[str, Any] | None) -> bool:
    """Is the mean absolute force component of a data set above the threshold?"""
    return forces is not None and forces["baseline_mae"] > FORCE_THRESHOLD


def summarise(datasets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the summary over the entries of the data sets."""
    fair = [entry for entry in datasets if entry["informative"]]
    apart = [entry for entry in datasets if entry["forces"] is not None and not entry["informative"]]
    ratios = {entry["name"]: entry["forces"]["ratio_mae"] for entry in fair}
    ratios_rmse = [entry["forces"]["ratio_rmse"] for entry in fair]
    return {
        "force_threshold": FORCE_THRESHOLD,
        "force_threshold_unit": "meV/A",
        "n_sets": len(fair),
        "median_force_ratio_mae": median(ratios.values()) if ratios else None,
        "median_force_ratio_rmse": median(ratios_rmse) if ratios_rmse else None,
        "n_sets_better_than_baseline": sum(value < 1 for value in ratios.values()),
        "sets_worse_than_baseline": [name for name, value in ratios.items() if value >= 1],
        "sets_apart": {entry["name"]: entry["forces"]["ratio_mae"] for entry in apart},
        "sets_without_forces": [entry["name"] for entry in datasets if entry["forces"] is None],
    }


def write_report(report: dict[str, Any], folder: str | Path) -> Path:
    """Write ``report.json`` into ``folder`` (made if missing), complete or not at all; return its path."""
    path = Path(folder) / REPORT_FILE
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path
