"""Adapt a pretrained model to a few labels: references first, then weights, with a report.

The order of things is what makes it trustworthy: the reference energies are refitted on what the
pretrained model leaves, the error is printed before any step, the start is checked to be the head and
backbone that were asked for, and old heads stay in the result.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from ase.data import chemical_symbols
from lightning.pytorch.callbacks import EMAWeightAveraging, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger

from lam.checkpoint import CheckpointMetadata, load_checkpoint, resolve, save_checkpoint
from lam.config.load import load_config, parse_overrides
from lam.data.dataset import MultiTaskDataset
from lam.data.manifest import DatasetSpec, Manifest, load_manifest
from lam.data.readers import read_structures, stem
from lam.data.references import ReferenceFit, fit_reference_energies, reference_report
from lam.data.shards import ShardWriter
from lam.data.splits import SplitSpec
from lam.errors import LamError
from lam.model import Potential
from lam.model.extend import add_head
from lam.train.config import BatchSection, OptimizerSection
from lam.train.config_finetune import FinetuneConfig
from lam.train.data import DataModule
from lam.train.errors import dataset_errors, interaction_residuals
from lam.train.heads import head_statistics
from lam.train.module import TrainingModule
from lam.train.run import silence_lightning

Errors = dict[str, float]


@dataclass(frozen=True)
class FineTuneResult:
    """What a fine-tune did.

    Errors are ``energy_mae`` (eV/atom, after the refit of the reference energies), ``force_mae``
    (eV/Angstrom), ``stress_mae`` (eV/Angstrom^3) and ``force_ratio`` (relative to predicting zero).
    """

    path: Path
    """Folder of the new checkpoint."""
    head: str
    """Name of the new head."""
    base_head: str
    """Head that it started from; empty from scratch."""
    n_train: int
    """Number of structures trained on."""
    measured_on: str
    """What ``before`` and ``after`` were measured on: "test data", "held-out labels" or "training labels"."""
    before: Errors
    """Error of the pretrained model after the refit, before any step."""
    after: Errors
    """Error of the result."""
    forgetting: dict[str, dict[str, Errors]]
    """Head -> before and after, on a sample of its pretraining data; empty without such data."""
    seconds: float
    """Wall time."""


def finetune(
    model: str | Path | Potential,
    data: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    test: str | Path | Sequence[str | Path] | None = None,
    method: str = "full",
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
        model: name of a shipped model, path of a checkpoint, or a model.
        data: file or files with labels, anything that ASE reads.
        out: folder of the new checkpoint; must not exist.
        test: files with labels to measure on. Without them a part of ``data`` is held out.
        method: "full" or "head".
        head: head to start from; by default the model's choice for the structures.
        new_head: name of the new head; by default that of the first data file.
        pretraining_data: manifest with pretraining data, to measure forgetting; by default the one the
            model was trained with, if it is there.
        config: YAML file with settings (see :class:`~lam.train.config_finetune.FinetuneConfig`).
        overrides: ``key=value`` settings.
        quiet: print nothing.
        **settings: further settings by name, e.g. ``steps=500``.

    Raises:
        LamError: for unusable data, unknown heads or settings, or an existing ``out``; nothing is written.
    """
    started = time.time()
    given = {"method": method, **settings, **parse_overrides(overrides)}
    values = load_config(FinetuneConfig, config).model_dump(exclude_unset=True) | given if config else given
    options = FinetuneConfig.parse(values, where="the fine-tune settings")
    out = Path(out)
    if out.exists():
        raise LamError(f"'{out}' exists; choose another folder for the result.")
    base, parent = _load(model)
    files, test_files = _paths(data), _paths(test) if test is not None else []
    name = new_head or stem(files[0])
    if name in base.head_names:
        raise LamError(f"The model has a head '{name}' already; name the new one with --new-head.")
    pl.seed_everything(options.seed, verbose=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        tuner = _Tuner(base, files, test_files, name, head, options, work, quiet)
        tuner.refit()
        before = tuner.errors()
        tuner.say(f"before any step, on the {tuner.measured_on}: {_line(before)}")
        replay = _pretraining_sample(base, parent, pretraining_data)
        kept_before = _forgetting(tuner.model, replay, options) if not options.from_scratch else {}
        tuner.train()
        after = tuner.errors()
        tuner.say(f"after {options.steps} steps, on the {tuner.measured_on}: {_line(after)}")
        kept_after = _forgetting(tuner.model, replay, options) if kept_before else {}
        forgetting = {h: {"before": kept_before[h], "after": kept_after[h]} for h in kept_before}
        _say_forgetting(tuner, forgetting)
        result = FineTuneResult(
            path=out,
            head=name,
            base_head=tuner.base_head,
            n_train=len(tuner.train_set),
            measured_on=tuner.measured_on,
            before=before,
            after=after,
            forgetting=forgetting,
            seconds=round(time.time() - started, 2),
        )
        record = dataclasses.asdict(result) | {"path": str(out), "config": options.to_dict(), "parent": parent.name}
        model_name = out.name
        save_checkpoint(
            out, tuner.model, metadata=CheckpointMetadata(name=model_name, training=record, metrics={name: after})
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)
    tuner.say(f"wrote {out} (head '{name}', {result.seconds:.0f} s)")
    return result


class _Tuner:
    """One fine-tune in progress: data, model and head."""

    def __init__(
        self,
        base: Potential,
        files: list[Path],
        test_files: list[Path],
        name: str,
        head: str | None,
        options: FinetuneConfig,
        work: Path,
        quiet: bool,
    ) -> None:
        self.options, self.work, self.quiet, self.name = options, work, quiet, name
        hold_out = 0.0 if test_files else options.hold_out
        spec = _shard(work / "train", files, name, SplitSpec(test=hold_out, val=0.0, seed=options.seed))
        self.base = base
        heads = [*base.head_names, name]
        self.train_set = MultiTaskDataset(Manifest(datasets=[spec]), "train", base.cutoff, heads=heads)
        held_out = MultiTaskDataset(Manifest(datasets=[spec]), "test", base.cutoff, heads=heads)
        self.measured_on, self.test_set = "held-out labels", held_out
        if test_files:
            test_spec = _shard(work / "test", test_files, name, SplitSpec(test=0.0, val=0.0))
            self.test_set = MultiTaskDataset(Manifest(datasets=[test_spec]), "all", base.cutoff, heads=heads)
            self.measured_on = "test data"
        elif not len(held_out):
            self.measured_on, self.test_set = "training labels", self.train_set
        self.statistics = head_statistics(self.train_set, 0)
        self.base_head = "" if options.from_scratch else self._base_head(head)

    def say(self, text: str) -> None:
        """Print a line."""
        if not self.quiet:
            print(text, flush=True)

    def _base_head(self, head: str | None) -> str:
        if head is not None:
            return self.base.head_names[self.base.head_index(head)]
        numbers = {int(z) for z in np.flatnonzero(self.statistics.fit.counts)}
        return self.base.head_names[self.base.choose_head(numbers, [self.statistics.info.periodic])]

    def refit(self) -> None:
        """Build the model to train, with reference energies fitted to what the pretrained one leaves."""
        info = self.statistics.info
        if self.options.from_scratch:
            self.model = Potential(self.base.config, [*self.base.heads, info], [info.name, *self.base.default_heads])
            self.say(f"from scratch: {len(self.train_set)} structures, head '{self.name}'")
            return
        like = self.base.heads[self.base.head_index(self.base_head)]
        fit = self._fit_residuals()
        info = info.model_copy(
            update={
                "reference_energies": {chemical_symbols[z]: float(fit.energies[z]) for z in np.flatnonzero(fit.counts)},
                "reference_rank": fit.rank,
                # The scale belongs to the weights that are taken over.
                "energy_scale": like.energy_scale,
            }
        )
        self.model = add_head(self.base, info, like=self.base_head)
        _require_same_start(self.base, self.model, self.base_head, self.name)
        theory = like.level_of_theory
        self.say(f"{len(self.train_set)} structures, new head '{self.name}' from '{self.base_head}' ({theory})")
        for line in reference_report(fit, name=self.name):
            self.say("  " + line)

    def _fit_residuals(self) -> ReferenceFit:
        residuals, items = interaction_residuals(self.base, self.train_set, self.base_head)
        shard = self.train_set.shards[0]
        rows = [self.train_set.locate(item)[1] for item in items]
        return fit_reference_energies(shard.compositions()[rows], residuals.numpy())

    def errors(self) -> Errors:
        """Measure the model on the test data."""
        return dataset_errors(self.model, self.test_set)[self.name]

    def train(self) -> None:
        """Take the steps."""
        options = self.options
        if options.steps == 0:
            return
        module = TrainingModule(
            self.model,
            loss=options.loss,
            optimizer=OptimizerSection(
                learning_rate=options.rate,
                weight_decay=0.0,
                warmup_steps=min(20, options.steps // 10),
                decay=0.8,
                ema_decay=options.ema_decay,
            ),
            steps=options.steps,
            force_scale=torch.full((len(self.model.heads),), max(self.statistics.force_rms, 1e-6)),
            describe=self.train_set.name_of,
        )
        if options.method == "head":
            _train_head_only(self.model, self.model.head_index(self.name))
        batch = BatchSection(max_atoms=options.max_atoms, max_edges=options.max_edges, workers=0)
        data = DataModule(
            self.train_set, None, batch=batch, steps=options.steps, seed=options.seed, validation_structures=1
        )
        show = sys.stderr.isatty() and not self.quiet
        silence_lightning()
        trainer = pl.Trainer(
            accelerator="auto",
            devices=1,
            max_steps=options.steps,
            max_epochs=-1,
            callbacks=[
                EMAWeightAveraging(decay=options.ema_decay, use_buffers=False),
                *([TQDMProgressBar(refresh_rate=10)] if show else []),
            ],
            logger=CSVLogger(self.work, name="log"),
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=show,
            gradient_clip_val=10.0,
            log_every_n_steps=50,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(module, data)
        self.model = module.model.cpu().requires_grad_(True).eval()


def _load(model: str | Path | Potential) -> tuple[Potential, CheckpointMetadata]:
    if isinstance(model, Potential):
        metadata = getattr(model, "metadata", None) or CheckpointMetadata(name="model in memory")
        return model.cpu().float().eval(), metadata
    return load_checkpoint(resolve(model))


def _paths(files: str | Path | Sequence[str | Path]) -> list[Path]:
    return [Path(files)] if isinstance(files, str | Path) else [Path(file) for file in files]


def _shard(folder: Path, files: list[Path], name: str, split: SplitSpec) -> DatasetSpec:
    """Pass labelled files through the one validated door into a temporary shard."""
    folder.mkdir(parents=True)
    path = folder / "labels.h5"
    with ShardWriter(path) as writer:
        for file in files:
            for structure in read_structures(file):
                # Few labels are independent frames more often than trajectories: hold out single ones.
                writer.append(dataclasses.replace(structure, group=structure.group or structure.source))
    try:
        return DatasetSpec(name=name, path=path, source=", ".join(file.name for file in files), split=split)
    except ValueError:
        raise LamError(f"'{name}' cannot be the name of a head: no blanks, dots or slashes.") from None


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


def _train_head_only(model: Potential, row: int) -> None:
    """Let only one head's rows learn: other rows get no gradient, everything else is frozen."""
    per_task = model.readout.task_parameters()
    model.requires_grad_(False)
    for parameter in per_task:
        parameter.requires_grad_(True)
        mask = torch.zeros_like(parameter)
        mask[row] = 1.0
        parameter.register_hook(lambda gradient, mask=mask: gradient * mask.to(gradient.device))


def _pretraining_sample(
    base: Potential, parent: CheckpointMetadata, manifest: str | Path | None
) -> MultiTaskDataset | None:
    """Return held-out pretraining data of the heads the model has, or None where there is none."""
    if manifest is None:
        recorded = (parent.training.get("config") or {}).get("manifest")
        if not recorded or not Path(recorded).is_file():
            return None
        manifest = recorded
    sets = load_manifest(manifest)
    known = [name for name in sets.names if name in base.head_names]
    if not known:
        raise LamError(f"'{manifest}' has no data set that is named like a head of the model.")
    return MultiTaskDataset(sets.select(known), "test", base.cutoff, heads=base.head_names)


def _forgetting(model: Potential, sample: MultiTaskDataset | None, options: FinetuneConfig) -> dict[str, Errors]:
    if sample is None:
        return {}
    return dataset_errors(model, sample, max_per_dataset=options.forgetting_structures)


def _say_forgetting(tuner: _Tuner, forgetting: dict[str, dict[str, Errors]]) -> None:
    ratios = [(entry["before"].get("force_ratio"), entry["after"].get("force_ratio")) for entry in forgetting.values()]
    pairs = [pair for pair in ratios if pair[0] is not None]
    if pairs:
        before, after = np.median(np.array(pairs), axis=0)
        tuner.say(
            f"forgetting: median force error of {len(pairs)} old heads on their own held-out data, relative to "
            f"zero forces: {before:.3f} before, {after:.3f} after"
        )
    elif not tuner.options.from_scratch:
        tuner.say("forgetting: not measured, no pretraining data here (name a manifest with --pretraining-data)")


def _line(errors: Errors) -> str:
    parts = []
    if "energy_mae" in errors:
        parts.append(f"energy {1000 * errors['energy_mae']:.2f} meV/atom")
    if "force_mae" in errors:
        parts.append(f"forces {1000 * errors['force_mae']:.1f} meV/A")
    if "stress_mae" in errors:
        parts.append(f"stress {1000 * errors['stress_mae']:.2f} meV/A^3")
    return ", ".join(parts) + " (MAE)"
