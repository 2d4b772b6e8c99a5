"""Adapt a pretrained model to a few labels: references first, then weights, with a report.

The order of things is what makes it trustworthy: the reference energies are refitted on what the
pretrained model leaves, the error is printed before any step, the start is checked to be the head and
backbone that were asked for, and old heads stay in the result.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from ase.data import chemical_symbols
from lightning.pytorch.callbacks import TQDMProgressBar

from lam.checkpoint import CheckpointMetadata, load_checkpoint, resolve, save_checkpoint
from lam.config.load import merge, parse_overrides, read_yaml
from lam.data.references import fit_reference_energies, reference_report
from lam.errors import LamError
from lam.model import HeadInfo, Potential
from lam.model.extend import add_head
from lam.train.callbacks import Averaging
from lam.train.config import BatchSection, OptimizerSection
from lam.train.config_finetune import FinetuneConfig
from lam.train.data import DataModule
from lam.train.errors import dataset_errors, interaction_residuals
from lam.train.finetune_data import Labels, head_name, read_labels
from lam.train.finetune_report import (
    FineTuneResult,
    drift_line,
    error_line,
    forgetting_line,
    pretraining_sample,
    sample_errors,
)
from lam.train.logs import CsvLog
from lam.train.module import TrainingModule
from lam.train.probes import drift_of_old_heads
from lam.train.quiet import interruptible, quiet_lightning
from lam.train.randomness import isolated_randomness, seed_all
from lam.train.trainer import accelerator

__all__ = ["FineTuneResult", "finetune"]

Say = Callable[[str], None]
LOG_FILE = "metrics.csv"
"""Log of the training, in the folder of the new checkpoint."""


def finetune(
    model: str | Path | Potential,
    data: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    test: str | Path | Sequence[str | Path] | None = None,
    method: str | None = None,
    head: str | None = None,
    new_head: str | None = None,
    pretraining_data: str | Path | None = None,
    config: str | Path | None = None,
    overrides: Sequence[str] = (),
    quiet: bool = False,
    **settings: Any,
) -> FineTuneResult:
    """Fine-tune a model on labelled structures and write a checkpoint.

    Args:
        model: name of a shipped model, path of a checkpoint, or a model (which is not changed).
        data: file or files with labels, anything that ASE reads.
        out: folder of the new checkpoint; must not exist.
        test: files with labels to measure on. Without them a part of ``data`` is held out: whole groups
            where the frames state one (``group`` or ``config_type``), else single frames.
        method: "full" (the default) or "head".
        head: head to start from; by default the model's choice for the structures.
        new_head: name of the new head; by default that of the first data file.
        pretraining_data: manifest with pretraining data, to measure forgetting; by default the one the
            model was trained with, if it is there.
        config: YAML file with settings (see :class:`~lam.train.config_finetune.FinetuneConfig`).
        overrides: ``key=value`` settings.
        quiet: print nothing.
        **settings: further settings by name, e.g. ``steps=500``. They win over ``config``.

    Raises:
        LamError: for unusable data, unknown heads or settings, or an existing ``out``; nothing is written.
    """
    started = time.time()
    options = _options(config, ({"method": method} if method is not None else {}) | settings, overrides)
    out, files, test_files = Path(out), _paths(data), _paths(test)
    _require_writable(out)
    base, parent = _load(model)
    if head is not None:
        base.head_index(head)  # raises for an unknown one
    name = head_name(new_head, files, [] if options.from_scratch else base.head_names)
    replay = None if options.from_scratch else pretraining_sample(base, parent, pretraining_data)

    def say(text: str) -> None:
        if not quiet:
            print(text, flush=True)

    work = Path(tempfile.mkdtemp(prefix="lam-finetune-"))
    try:
        with isolated_randomness(), quiet_lightning():
            seed_all(options.seed)
            heads = [name] if options.from_scratch else [*base.head_names, name]
            labels = read_labels(files, test_files, name, heads, base.cutoff, options, work)
            tuned, base_head = _start(base, labels, head, options, say)
            before = dataset_errors(tuned, labels.test)[name]
            say(f"before any step, on the {labels.measured_on}: {error_line(before)}")
            kept_before = sample_errors(tuned, replay, options.forgetting_structures)
            tuned = _train(tuned, labels, options, work / LOG_FILE, show=sys.stderr.isatty() and not quiet)
            after = dataset_errors(tuned, labels.test)[name]
            say(f"after {options.steps} steps, on the {labels.measured_on}: {error_line(after)}")
            kept_after = sample_errors(tuned, replay, options.forgetting_structures)
        forgetting = {h: {"before": kept_before[h], "after": kept_after[h]} for h in kept_before}
        drift = None
        if not options.from_scratch:
            drift = drift_of_old_heads(base, tuned)
            say(forgetting_line(forgetting))
            say(drift_line(drift))
        result = FineTuneResult(
            path=out,
            head=name,
            base_head=base_head,
            n_train=len(labels.train),
            measured_on=labels.measured_on,
            before=before,
            after=after,
            forgetting=forgetting,
            drift=drift,
            seconds=round(time.time() - started, 2),
        )
        _save(out, tuned, result, options, parent, work / LOG_FILE)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    say(f"wrote {out} (head '{name}', {result.seconds:.0f} s)")
    return result


# -- what is asked for -------------------------------------------------------------------------


def _options(config: str | Path | None, given: dict[str, Any], overrides: Sequence[str]) -> FinetuneConfig:
    values = read_yaml(config) if config is not None else {}
    values = merge(merge(values, given), parse_overrides(overrides))
    where = f"'{config}' and the fine-tune settings" if config is not None else "the fine-tune settings"
    options = FinetuneConfig.parse(values, where=where)
    if options.from_scratch and options.method == "head":
        raise LamError("from_scratch trains every weight: use it with method 'full'.")
    return options


def _paths(files: str | Path | Sequence[str | Path] | None) -> list[Path]:
    if files is None:
        return []
    paths = [Path(files)] if isinstance(files, str | Path) else [Path(file) for file in files]
    if not paths:
        raise LamError("There is no data file; name at least one.")
    return paths


def _require_writable(out: Path) -> None:
    if out.exists():
        raise LamError(f"'{out}' exists; choose another folder for the result.")
    parent = next(folder for folder in out.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise LamError(f"Cannot write '{out}': '{parent}' is not a folder that you may write to.")


def _load(model: str | Path | Potential) -> tuple[Potential, CheckpointMetadata]:
    if isinstance(model, Potential):
        metadata = getattr(model, "metadata", None) or CheckpointMetadata(name="model in memory")
        return copy.deepcopy(model).cpu().float().eval(), metadata
    return load_checkpoint(resolve(model))


# -- the start ---------------------------------------------------------------------------------


def _start(
    base: Potential, labels: Labels, head: str | None, options: FinetuneConfig, say: Say
) -> tuple[Potential, str]:
    """Return the model to train, with fitted reference energies, and the head it starts from."""
    info, count = labels.statistics.info, len(labels.train)
    if options.from_scratch:
        say(f"{count} structures, head '{info.name}' from scratch")
        return Potential(base.config, [info]).eval(), ""
    like = _base_head(base, labels, head)
    theory = base.heads[base.head_index(like)].level_of_theory
    say(f"{count} structures, new head '{info.name}' from '{like}' ({theory})")
    tuned = add_head(base, _refitted(base, labels, like, say), like=like)
    _require_same_start(base, tuned, like, info.name)
    return tuned, like


def _base_head(base: Potential, labels: Labels, head: str | None) -> str:
    """Return the head to start from.

    Raises:
        LamError: if the model never saw one of the elements.
    """
    unseen = labels.elements - base.elements()
    if unseen:
        symbols = ", ".join(chemical_symbols[z] for z in sorted(unseen))
        raise LamError(
            f"The model was never trained on {symbols}, so there is nothing to fine-tune for it; leave these "
            "structures out, use another model, or train from_scratch=true."
        )
    if head is not None:
        return head
    try:
        return base.head_names[base.choose_head(labels.elements, [labels.statistics.info.periodic])]
    except LamError:  # no single head covers all elements: the one that covers most of them is the best start
        order = dict.fromkeys([*base.default_heads, *base.head_names])
        return max(order, key=lambda name: len(labels.elements & base.elements(name)))


def _refitted(base: Potential, labels: Labels, like: str, say: Say) -> HeadInfo:
    """Return the new head with reference energies fitted to what the pretrained model leaves."""
    residuals, items = interaction_residuals(base, labels.train, like)
    rows = [labels.train.locate(item)[1] for item in items]
    fit = fit_reference_energies(labels.train.shards[0].compositions()[rows], residuals.numpy())
    info = labels.statistics.info
    for line in reference_report(fit, name=info.name):
        say("  " + line)
    return info.model_copy(
        update={
            "reference_energies": {symbol: float(fit.energies[z]) for z, symbol in _symbols(labels.elements)},
            "reference_rank": fit.rank,
            # The scale belongs to the weights that are taken over.
            "energy_scale": base.heads[base.head_index(like)].energy_scale,
        }
    )


def _symbols(numbers: set[int]) -> list[tuple[int, str]]:
    return [(z, chemical_symbols[z]) for z in sorted(numbers)]


def _require_same_start(base: Potential, model: Potential, like: str, name: str) -> None:
    """Refuse to go on unless backbone and head are bitwise the ones asked for."""
    old, new = base.state_dict(), model.state_dict()
    for key in (key for key in old if key.startswith("backbone.")):
        if not torch.equal(old[key], new[key]):
            raise LamError(f"The backbone to be tuned differs from the pretrained one in '{key}'; this is a bug.")
    rows = base.head_index(like), model.head_index(name)
    for before, after in zip(base.readout.task_parameters(), model.readout.task_parameters(), strict=True):
        if not torch.equal(before[rows[0]], after[rows[1]]):
            raise LamError(f"The new head does not start from the head '{like}'; this is a bug.")


# -- the steps ---------------------------------------------------------------------------------


def _train(model: Potential, labels: Labels, options: FinetuneConfig, log: Path, *, show: bool) -> Potential:
    """Take the steps and return the model with averaged weights, in evaluation mode."""
    if options.steps == 0:
        return model.eval()
    if options.method == "head":
        _train_head_only(model, model.head_index(labels.statistics.info.name))
    module = TrainingModule(
        model.train(),
        loss=options.loss,
        optimizer=OptimizerSection(
            learning_rate=options.rate,
            weight_decay=0.0,
            warmup_steps=min(20, options.steps // 10),
            decay=0.8,
            ema_decay=options.ema_decay,
        ),
        steps=options.steps,
        force_scale=torch.full((len(model.heads),), max(labels.statistics.force_scale, 1e-6)),
        describe=labels.train.name_of,
    )
    batch = BatchSection(max_atoms=options.max_atoms, max_edges=options.max_edges, workers=0)
    data = DataModule(labels.train, None, batch=batch, steps=options.steps, seed=options.seed, validation_structures=1)
    trainer = _trainer(options, log, show)
    with interruptible(trainer):
        trainer.fit(module, data)
    return module.model.cpu().requires_grad_(True).eval()


def _trainer(options: FinetuneConfig, log: Path, show: bool) -> pl.Trainer:
    # The average spans at most a tenth of the steps: of a short training it would be mostly the start.
    decay = min(options.ema_decay, max(0.0, 1.0 - 10.0 / options.steps))
    return pl.Trainer(
        accelerator=accelerator("auto"),
        devices=1,
        max_steps=options.steps,
        max_epochs=-1,
        callbacks=[Averaging(decay), *([TQDMProgressBar(refresh_rate=10)] if show else [])],
        logger=CsvLog(log),
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=show,
        limit_val_batches=0,
        log_every_n_steps=min(10, options.steps),
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=log.parent,
    )


def _train_head_only(model: Potential, row: int) -> None:
    """Let only one head's rows learn: other rows get no gradient, everything else is frozen."""
    per_task = model.readout.task_parameters()
    model.requires_grad_(False)
    for parameter in per_task:
        parameter.requires_grad_(True)
        mask = torch.zeros_like(parameter)
        mask[row] = 1.0
        parameter.register_hook(lambda gradient, mask=mask: gradient * mask.to(gradient.device))


# -- the result --------------------------------------------------------------------------------


def _save(
    out: Path, model: Potential, result: FineTuneResult, options: FinetuneConfig, parent: CheckpointMetadata, log: Path
) -> None:
    if options.method == "full" and options.steps and not options.from_scratch:
        # What was measured of the old heads no longer holds: their backbone has moved.
        model.heads = [info.model_copy(update={"metrics": {}}) for info in model.heads]
    record = dataclasses.asdict(result) | {
        "path": str(out),
        "config": options.to_dict(),
        "parent": parent.name,
        "parent_sha256": parent.weights.sha256 if parent.weights else None,
    }
    save_checkpoint(
        out, model, metadata=CheckpointMetadata(name=out.name, training=record, metrics={result.head: result.after})
    )
    if log.exists():
        shutil.copyfile(log, out / LOG_FILE)
