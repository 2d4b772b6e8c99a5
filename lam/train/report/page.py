"""The page: one HTML file with everything in it, beside the plots as files and the numbers as JSON."""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from lam.atomic_write import atomic_file
from lam.errors import LamError
from lam.train.report.gather import Run, read_run, summarise
from lam.train.report.plots import write_plots

PAGE = "index.html"
_FEW = 5
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #20242a; max-width: 1100px; margin: 2em auto; padding: 0 1em; }
h1 { margin-bottom: 0.2em; } h2 { margin-top: 2em; border-bottom: 1px solid #dde0e4; }
table { border-collapse: collapse; margin: 0.6em 0; } th { text-align: left; font-weight: 600; }
th, td { padding: 0.15em 0.9em 0.15em 0; vertical-align: top; } td.n, th.n { text-align: right; }
tr + tr td { border-top: 1px solid #eef0f2; } img { max-width: 100%; height: auto; }
pre { background: #f6f7f8; padding: 0.8em; overflow: auto; } .note { color: #606770; }
.warn { background: #fdf1e4; padding: 0.5em 0.9em; border-left: 4px solid #d9730d; }
"""


def write_report(run: str | Path, folder: str | Path | None = None) -> Path:
    """Write the page of a training: ``index.html``, its plots as PNG and ``report.json``; return the page.

    Args:
        run: the folder of the training.
        folder: where to; by default ``report`` in the folder of the training.

    Raises:
        LamError: if there is no training, it has logged nothing yet, or the folder cannot be used.
    """
    found = read_run(run)
    folder = Path(folder) if folder is not None else found.folder / "report"
    if folder.exists() and not folder.is_dir():
        raise LamError(f"The output '{folder}' is a file: name a folder.")
    if found.config and folder.resolve() == (found.folder / found.config.name).resolve():
        raise LamError(f"'{folder}' is where the checkpoint of this training goes; name another folder with -o.")
    folder.mkdir(parents=True, exist_ok=True)
    summary = summarise(found)
    plots = write_plots(found, folder)
    text = _page(found, summary, plots)
    with atomic_file(folder / "report.json") as temporary:
        temporary.write_text(json.dumps(_finite(summary), indent=1) + "\n", encoding="utf-8")
    with atomic_file(folder / PAGE) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return folder / PAGE


def _page(run: Run, summary: dict[str, Any], plots: dict[str, Path]) -> str:
    title = html.escape(summary["name"] or run.folder.name)
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}: training</title>',
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>",
        f'<p class="note">{html.escape(_status(summary))}</p>',
        *(f'<p class="warn">{html.escape(text)}</p>' for text in warnings_of(summary)),
        "<h2>The run</h2>", _run_table(run, summary), _states_table(run),
    ]  # fmt: skip
    for heading, path in plots.items():
        parts += [f"<h2>{html.escape(heading)}</h2>", _image(path, heading)]
        if heading == "Loss by head":
            parts.append(_worst_and_best(summary))
        if heading == "Force error of each head":
            parts.append("<p>All errors of the last validation stand in the table below.</p>")
    if missing := _missing(run):
        parts.append(f'<h2>Not there yet</h2><p class="note">{html.escape(missing)}</p>')
    parts.append(_heads_table(summary))
    if run.settings:
        settings = html.escape(yaml.safe_dump(run.settings, sort_keys=False))
        parts.append(f"<h2>Configuration</h2><details><summary>config.yaml</summary><pre>{settings}</pre></details>")
    return "\n".join([*(part for part in parts if part), "</body></html>", ""])


def _status(summary: dict[str, Any]) -> str:
    if summary["finished"]:
        text = f"Finished: {summary['step']:,} steps."
    else:
        of = f" of {summary['steps']:,}" if summary["steps"] else ""
        text = f"Step {summary['step']:,}{of}; last line of the log {_span(summary['log_age_seconds'])} ago."
        hours = summary["speed"].get("hours_to_go")
        if hours is not None and summary["log_age_seconds"] < 3600:
            text += f" About {_span(3600 * hours)} to go."
    return text


def warnings_of(summary: dict[str, Any]) -> list[str]:
    """Return sentences about what deserves a look."""
    found = []
    if skipped := int(summary["last"].get("skipped", 0)):
        found.append(f"{skipped:,} step(s) were skipped as faulty; the output of the training names their structures.")
    worse = [h for h, v in summary["heads"].items() if v.get("force_ratio", 0.0) > 1.0]
    if worse:
        shown = ", ".join(worse[:_FEW]) + (f" and {len(worse) - _FEW} more" if len(worse) > _FEW else "")
        found.append(f"Worse than zero forces in the last validation: {shown}.")
    not_finite = [
        head
        for head, values in summary["heads"].items()
        if not all(math.isfinite(value) for name, value in values.items() if not name.startswith("loss_"))
    ]
    if not_finite:
        found.append(f"Errors that are not finite in the last validation: {', '.join(not_finite[:_FEW])}.")
    if any(state["step"] is None for state in summary["states"]):
        found.append("A state in the folder 'state' cannot be read.")
    if summary["speed"].get("waiting", 0.0) > 0.2:
        share = 100 * summary["speed"]["waiting"]
        found.append(
            f"{share:.0f} % of the time passes outside of steps (data, validation, states): try more batch.workers, or "
            "rarer validations."
        )
    return found


def _run_table(run: Run, summary: dict[str, Any]) -> str:
    speed, last, validation, config = summary["speed"], summary["last"], summary["validation"], run.config
    rows: list[tuple[str, str]] = [("folder", str(run.folder))]
    if config:
        rows += [
            ("preset", config.preset + (f" with {config.model}" if config.model else "")),
            ("manifest", config.manifest),
            ("batch of a process", f"{config.batch.max_atoms:,} atoms, {config.batch.max_edges:,} edges"),
            ("optimiser", f"{config.optimizer.kind}, learning rate {config.optimizer.learning_rate:g}"),
            ("precision", config.precision),
        ]
    of = f" of {summary['steps']:,}" if summary["steps"] else ""
    rows.append(("steps done", f"{summary['step']:,}{of}" + (" (finished)" if summary["finished"] else "")))
    if summary["processes"]:
        rows.append(("processes", f"{summary['processes']} (those that wrote the last state)"))
    rows += [(f"loss, {term}", _number(last[term])) for term in ("energy", "forces", "stress") if term in last]
    if "skipped" in last:
        rows.append(("steps skipped", f"{int(last['skipped']):,}"))
    if validation["force_ratio_median"] is not None:
        text = f"{_number(validation['force_ratio_median'])} (best {_number(validation['best_force_ratio_median'])})"
        rows.append(("force error / zero forces, median", text))
        rows.append(("... worst head", _number(validation["force_ratio_worst"])))
    for name, label, factor, unit in (
        ("atoms_per_second", "atoms per second, now", 1, ""),
        ("atoms_per_second_median", "... median of the log", 1, ""),
        ("waiting", "time waiting", 100, " %"),
        ("imbalance", "work of the busiest process / mean", 1, ""),
        ("memory_gb", "most memory of a process", 1, " GB"),
    ):
        if name in speed:
            rows.append((label, _number(factor * speed[name]) + unit))
    return _table(("", ""), [(html.escape(a), html.escape(b)) for a, b in rows])


def _states_table(run: Run) -> str:
    if not run.states:
        return '<p class="note">No resumable state has been written yet.</p>'
    rows = [
        (
            html.escape(state.name),
            "cannot be read" if state.step is None else f"{state.step:,}",
            str(state.processes or ""),
            f"{state.megabytes:,.1f}",
            _span(state.age) + " ago",
        )
        for state in run.states
    ]
    return _table(("state", "step", "processes", "MB", "written"), rows, numeric=(1, 2, 3))


def _worst_and_best(summary: dict[str, Any]) -> str:
    """Return the heads with the largest and the smallest force loss of the last rows."""
    losses = {h: v["loss_forces"] for h, v in summary["heads"].items() if math.isfinite(v.get("loss_forces", math.nan))}
    if len(losses) < 2:
        return ""
    order = sorted(losses, key=lambda head: -losses[head])
    count = min(_FEW, len(order) // 2)
    pairs = zip(order[:count], reversed(order[-count:]), strict=True)
    rows = [(html.escape(a), _number(losses[a]), html.escape(b), _number(losses[b])) for a, b in pairs]
    return _table(("largest force loss", "", "smallest", ""), rows, numeric=(1, 3))


_ERRORS = (
    ("energy_mae", "energy, meV/atom", 1000.0),
    ("force_mae", "forces, meV/Å", 1000.0),
    ("force_ratio", "forces / zero", 1.0),
    ("stress_mae", "stress, meV/Å³", 1000.0),
    ("loss_energy", "loss: energy", 1.0),
    ("loss_forces", "forces", 1.0),
    ("loss_stress", "stress", 1.0),
)


def _heads_table(summary: dict[str, Any]) -> str:
    heads = summary["heads"]
    shown = [entry for entry in _ERRORS if any(entry[0] in values for values in heads.values())]
    if not shown:
        return ""
    rows = [
        (html.escape(head), *(_number(factor * values[key]) if key in values else "" for key, _, factor in shown))
        for head, values in heads.items()
    ]
    header = ("head", *(label for _, label, _ in shown))
    return (
        "<h2>Heads now</h2><p>Mean absolute errors of the last validation; losses, means of the last rows.</p>"
        + _table(header, rows, numeric=range(1, len(header)))
    )


def _missing(run: Run) -> str:
    """Return a sentence about what the log does not hold yet."""
    absent = []
    config = run.config
    if not run.metrics.starting("val/"):
        when = f" (the first at step {min(config.log.validate_every, config.steps):,})" if config else ""
        absent.append(f"a validation{when}")
    if not run.metrics.starting("loss/"):
        absent.append("losses of single heads")
    if not run.speed.columns:
        absent.append("the log of the speed")
    return f"The logs do not hold: {'; '.join(absent)}." if absent else ""


# -- HTML --------------------------------------------------------------------------------------


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], numeric: Iterable[int] = ()) -> str:
    kinds = [' class="n"' if column in set(numeric) else "" for column in range(len(header))]
    lines = ["<table>"]
    if any(header):
        lines.append("<tr>" + "".join(f"<th{k}>{c}</th>" for k, c in zip(kinds, header, strict=True)) + "</tr>")
    for row in rows:
        lines.append("<tr>" + "".join(f"<td{k}>{c}</td>" for k, c in zip(kinds, row, strict=True)) + "</tr>")
    return "\n".join([*lines, "</table>"])


def _image(path: Path, text: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img alt="{html.escape(text)}" src="data:image/png;base64,{data}">'


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


def _finite(value: Any) -> Any:
    """Return plain values for JSON, which has no NaN: None in its place."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
