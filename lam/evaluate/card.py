"""Model cards: a page made of a checkpoint, the report of its evaluation, and what people noted.

The page has Hugging Face front matter. Every number comes from ``model.json``, ``report.json``, the
physics checks or the ``cost`` that the caller states; known failures are written by people, in the file
``<model>.notes.md`` beside the card, and a card is not written without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from lam.atomic_write import atomic_file
from lam.checkpoint import CheckpointMetadata, load_metadata
from lam.errors import LamError
from lam.evaluate import card_tables as tables
from lam.evaluate.card_sources import Card, Domains, physics_checks, read_report

RARE: Final = 50
"""Elements with fewer training structures are listed."""
NARROW: Final = 3
"""Elements that occur in no more data sets are listed."""


def write_card(
    model: str | Path,
    report: str | Path,
    out: str | Path,
    *,
    cost: Mapping[str, Any],
    domains: Domains | None = None,
    physics: bool = False,
) -> Card:
    """Write the card of a model.

    Args:
        model: folder of the checkpoint.
        report: ``report.json`` of ``lam eval`` on held-out data.
        out: file to write; known failures are read from ``<its name without .md>.notes.md`` beside it.
        cost: what the training cost beyond what the checkpoint records, e.g. ``{"hardware": "2 CPU cores"}``.
        domains: domain -> names of its data sets, to group errors by.
        physics: run the physics checks too; seconds for a small model.

    Returns:
        What the card was made of.

    Raises:
        LamError: if a file is missing, the report is none of ours, or is of another model.
    """
    out = Path(out)
    notes = out.with_name(f"{out.stem}.notes.md")
    if not notes.is_file():
        raise LamError(f"There is no '{notes}': write down the known failures there first, the card includes them.")
    card = Card(
        metadata=load_metadata(model),
        report=read_report(report),
        notes=notes.read_text(encoding="utf-8").strip(),
        cost={str(key): str(value) for key, value in cost.items()},
        physics=physics_checks(model) if physics else (),
        domains=domains or {},
    )
    strangers = {entry["head"] for entry in card.report["datasets"]} - {head.name for head in card.metadata.heads}
    if strangers:
        raise LamError(f"'{report}' is of another model: '{model}' has no head {', '.join(sorted(strangers))}.")
    with atomic_file(out) as temporary:
        temporary.write_text(render(card), encoding="utf-8")
    return card


# -- the page ----------------------------------------------------------------------------------


def render(card: Card) -> str:
    """Return the page."""
    sections = (
        _opening(card),
        _uses(card),
        _architecture(card),
        _data(card),
        _elements(card),
        _errors(card),
        _states(card),
        _cost(card),
        _physics(card),
        f"## Known failures and limits\n\n{card.notes}",
        _reproduce(card),
        _versions(card),
    )
    return f"---\n{front_matter(card)}---\n\n" + "\n\n".join(section.strip() for section in sections) + "\n"


def front_matter(card: Card) -> str:
    """Return the YAML that the Hugging Face Hub reads."""
    summary, name = card.report["summary"], card.metadata.name
    results = []
    if summary["n_sets"]:
        results.append(_result("all held-out splits", summary["n_sets"], summary["median_force_ratio_mae"]))
    for row in tables.domain_medians(card.report["datasets"], card.domains) if card.domains else ():
        results.append(_result(row["domain"], row["n_sets"], row["force_ratio"]))
    values = {
        "license": "other",
        "license_name": "mixed-see-training-data",
        "license_link": "#training-data",
        "library_name": "lam",
        "tags": ["interatomic-potential", "force-field", "molecules", "materials", "equivariant", "pretrained"],
        "metrics": ["mae"],
        "model-index": [{"name": name, "results": results}],
    }
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)


def _result(data: str, n_sets: int, value: float) -> dict[str, Any]:
    metric = {"type": "mae", "name": "force MAE / MAE of zero forces, median over data sets", "value": round(value, 4)}
    return {
        "task": {"type": "other", "name": "energy, forces and stress of atomic structures"},
        "dataset": {"type": "other", "name": f"{data} ({n_sets} data set{'s' if n_sets > 1 else ''})", "split": "test"},
        "metrics": [metric],
    }


def _opening(card: Card) -> str:
    meta, summary = card.metadata, card.report["summary"]
    text = (
        f"# {meta.name}\n\n"
        f"A pretrained interatomic potential: energy, forces and stress of molecules, crystals, surfaces and liquids, "
        f"with {len(meta.heads)} heads for {len(meta.heads)} data sets and {len(meta.elements)} elements. "
        f"{meta.weights.parameters:,} parameters, {meta.weights.bytes / 1e6:.2f} MB."
    )
    if summary["n_sets"]:
        worse = summary["sets_worse_than_baseline"]
        text += (
            f"\n\nOn held-out structures its force error is **{summary['median_force_ratio_mae']:.2f}** of that of "
            f"predicting zero forces (median over {summary['n_sets']} data sets; 1: no better than zero; 0: exact). "
            f"It is better than zero on {summary['n_sets_better_than_baseline']} of them"
            + (f"; worse on {', '.join(worse)}." if worse else ".")
        )
    return text


def _uses(card: Card) -> str:
    name = card.metadata.name
    return f"""\
## What it is for

* A start for fine-tuning on a few tens of labels of your own system and level of theory
  (`lam finetune --model {name} --data labels.extxyz --method full --out my-model`).
* Rough geometries, rattled and strained structures, rankings and screening *within one head*, where the table of
  errors below says that the error is small enough for the purpose.
* Teaching, tests and development, on a laptop.

## What it is not for

* Numbers to publish without fine-tuning and without checking against the reference method.
* Energies compared between heads, or with any other code: every head has its own level of theory and zero of energy.
* Charged systems, radicals and spin states other than those listed under [charge and spin](#charge-and-spin).
* Relaxed crystals in order to get small energy differences, phonons or elastic constants from them: see the sets apart.
* Elements with few labels (below), reactions and phases far from the training data, long molecular dynamics unwatched.
"""


def _architecture(card: Card) -> str:
    config, meta = card.metadata.architecture, card.metadata
    local = (
        f"strictly local: an atom sees what is within {config.cutoff:g} Å and nothing else"
        if config.n_layers == 1
        else f"{config.n_layers} message-passing layers of {config.cutoff:g} Å each"
    )
    return f"""\
## Architecture

E(3)-equivariant (rotations and inversions): atomic density in {config.radial_functions} Bessel functions and spherical
harmonics up to l = {config.l_max}, products of it at each atom up to fifth body order, {config.channels} channels;
{local}. Screened nuclear repulsion (ZBL) at short range: {"yes" if config.zbl else "no"}. One readout per head;
forces and stress are gradients of the energy. {meta.weights.parameters:,} parameters in {meta.weights.tensors} tensors.
Equations and reasons: [docs/architecture.md](../docs/architecture.md).

Where the user names no head, the first of these that covers the elements is taken, heads trained on structures of the
same kind (periodic or not) first: {_preferred(meta)}.
"""


def _preferred(meta: CheckpointMetadata) -> str:
    if len(meta.default_heads) == len(meta.heads):
        return "all heads, in the order of the table below"
    return ", ".join(f"`{name}`" for name in meta.default_heads) + ", then all in the order of the table below"


def _data(card: Card) -> str:
    heads = card.metadata.heads
    licences = Counter(head.licence for head in heads).most_common()
    listing = tables.markdown(("licence, as stated", "data sets"), [[k, str(n)] for k, n in licences], right=1)
    sources = "\n".join(f"* **{head.name}**: {head.source or 'not stated'}" for head in heads)
    return f"""\
## Training data

Licences are those that the source repositories state, and they are mixed: some permissive, some copyleft (GPL, LGPL,
CC-BY-SA), and for many data sets none is stated. No licence is stated here for the weights, and nobody has decided what
those of the data mean for them; where it matters, ask the owners of the data, or train without these data sets. "(m)"
marks what was noted from memory and not read in the source. Data sets by licence:

{listing}

Split: *group* means that whole trajectories or compositions are held out; *block* that groups were too few or too large
for that and contiguous frames were held out, which is easier to predict.

{tables.data_table(heads, card.metadata.training.get("splits") or {})}

<details><summary>Sources</summary>

{sources}

</details>
"""


def _elements(card: Card) -> str:
    counts = card.metadata.elements
    rare = tables.rare_elements(counts, RARE)
    narrow = tables.narrow_elements(card.metadata.heads, NARROW)
    return f"""\
## Elements

Number of training structures that contain each of the {len(counts)} elements, summed over the data sets (a head covers
the elements of its own data set only; `lam info --json` lists them).

```text
{tables.element_table(counts)}
```

* Fewer than {RARE} training structures: {", ".join(f"{s} ({counts[s]})" for s in rare) or "none"}.
* In at most {NARROW} data sets, whatever the number of structures: {", ".join(narrow) or "none"}.
"""


def _errors(card: Card) -> str:
    entries, summary = card.report["datasets"], card.report["summary"]
    fair = [entry for entry in entries if entry["informative"]]
    apart = [entry for entry in entries if not entry["informative"]]
    threshold = summary["force_threshold"] / 1000
    skipped = sum(entry["n_skipped"] for entry in entries)
    parts = [
        f"""\
## Errors

Mean absolute errors on the held-out test splits: E energy, meV/atom; F force component, meV/Å; S stress component,
meV/Å³. *Baseline*: composition only, that is one fitted energy per element, zero forces and zero stress. *F ratio*:
force error divided by the baseline's. Evaluated with lam {card.report["lam_version"]}.""",
    ]
    if summary["n_sets"]:
        ratios = {entry["name"]: entry["forces"]["ratio_mae"] for entry in fair}
        worst, best = max(ratios, key=ratios.__getitem__), min(ratios, key=ratios.__getitem__)
        parts.append(
            f"Over the {len(fair)} data sets with a mean force component above {threshold:g} eV/Å: median ratio "
            f"**{summary['median_force_ratio_mae']:.3f}** (of RMS errors {summary['median_force_ratio_rmse']:.3f}), "
            f"best {ratios[best]:.3f} ({best}), worst {ratios[worst]:.3f} ({worst}); better than the baseline on "
            f"{summary['n_sets_better_than_baseline']} of {summary['n_sets']}."
        )
    if card.domains and fair:
        parts.append(f"### By domain (medians over data sets)\n\n{tables.domain_table(entries, card.domains)}")
    if fair:
        parts.append(f"### By data set\n\n{tables.error_table(fair, card.domains)}")
    if apart:
        parts.append(
            f"### Apart: sets with mean force component below {threshold:g} eV/Å, or without forces\n\n"
            "Near-relaxed or symmetric crystals: zero forces are hard to beat there, and a ratio above 1 says little."
            "\n\n" + tables.error_table(apart, card.domains)
        )
    if any(entry["energy"] and entry["energy"]["refitted"] for entry in entries):
        parts.append("\\* after fitting one energy offset per element to these labels.")
    if skipped:
        parts.append(f"{skipped} structures with elements that their head does not cover were left out.")
    return "\n\n".join(parts)


def _states(card: Card) -> str:
    unusual = [h for h in card.metadata.heads if set(h.charges) - {0.0} or set(h.spin_multiplicities) - {1.0}]
    lines = [
        f"* {head.name}: charges {_values(head.charges, '+g')}; multiplicities {_values(head.spin_multiplicities, 'g')}"
        for head in unusual
    ]
    listing = "\n".join(lines) or "None: every training structure counts as a neutral singlet."
    return f"""\
## Charge and spin

Data sets with structures that are stated to be charged, or to be no singlets:

{listing}

Where the data state nothing, structures were trained as neutral singlets, whatever they physically are.
"""


def _values(values: Sequence[float], style: str) -> str:
    return ", ".join(f"{value:{style}}" if value else "0" for value in values) or "not recorded"


def _cost(card: Card) -> str:
    training = card.metadata.training
    config = training.get("config") or {}
    batch = config.get("batch") or {}
    facts = {
        "optimiser steps": f"{training['steps']:,}" if "steps" in training else None,
        "batch": f"up to {batch['max_atoms']:,} atoms and {batch['max_edges']:,} edges per process" if batch else None,
        "processes": training.get("processes"),
        # Of a resumed training this is its last stretch only: a total that is given replaces it.
        "wall time of the (last) run": None
        if any("wall time" in key for key in card.cost)
        else _duration(training.get("seconds_of_last_run")),
        "precision": config.get("precision"),
        **card.cost,
    }
    rows = [[key, str(value)] for key, value in facts.items() if value is not None]
    return "## Cost of the training\n\n" + tables.markdown(("", ""), rows)


def _duration(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds / 3600:.2f} h"


def _physics(card: Card) -> str:
    text = (
        "## Physics checks\n\n"
        "The suite `lam.testing.PotentialPhysicsTests` on this checkpoint: symmetries to 1e-5 relative in float32 and "
        "1e-10 in float64, forces and stress against finite differences to 1e-6 in float64. "
        "`tests/model/test_physics.py` repeats it, with dimers of all pairs of elements of every head."
    )
    if not card.physics:
        return f"{text}\n\nNot run for this card."
    return f"{text}\n\n" + tables.markdown(("check", "result"), [list(row) for row in card.physics])


def _reproduce(card: Card) -> str:
    name = card.metadata.name
    short = name.removeprefix("lam-")
    processes = card.metadata.training.get("processes") or 1
    launch = "python" if processes == 1 else f"torchrun --standalone --nproc-per-node={processes}"
    return f"""\
## How to reproduce

```bash
lam data convert ../shared/data -o data/shared --metadata configs/data/shared.yaml
{launch} train.py configs/pretrain/{short}.yaml
lam eval {name} data/shared/manifest.yaml -o evaluation
python model_cards/write_card.py {name} evaluation/report.json
```

The settings used are in the checkpoint: `lam info {name} --json`, key `training.config`.
"""


def _versions(card: Card) -> str:
    meta = card.metadata
    rows = [["checkpoint format", str(meta.format_version)], ["created", meta.created]]
    rows += [[key, value] for key, value in meta.versions.items()]
    rows += [["sha256 of the weights", f"`{meta.weights.sha256}`"]]
    return "## Versions\n\n" + tables.markdown(("", ""), rows)


def readme_numbers(card: Card, command: str) -> str:
    """Return the table of numbers for the README: the headline of the card, and the command that gives it."""
    meta, summary = card.metadata, card.report["summary"]
    facts = [
        ["parameters, size", f"{meta.weights.parameters:,}, {meta.weights.bytes / 1e6:.2f} MB"],
        ["heads, elements", f"{len(meta.heads)}, {len(meta.elements)}"],
        ["training structures", f"{sum(head.n_structures for head in meta.heads):,}"],
    ]
    if summary["n_sets"]:
        better = f"{summary['n_sets_better_than_baseline']} of {summary['n_sets']}"
        facts.append(["force error / zero forces, median", f"{summary['median_force_ratio_mae']:.3f}"])
        facts.append(["data sets better than zero forces", better])
    text = tables.markdown((f"`{meta.name}`", ""), facts)
    if card.domains and summary["n_sets"]:
        text += "\n\nMedians over data sets; E in meV/atom, F in meV/Å:\n\n"
        text += tables.domain_table(card.report["datasets"], card.domains)
    return f"{text}\n\nFrom `{command}`, written here by `model_cards/write_card.py`.\n"
