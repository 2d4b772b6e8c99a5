"""The rows of the ablations: the base recipe of each task, and what each row changes of it."""

from __future__ import annotations

from dataclasses import dataclass

TASKS = ("3bpa", "3bpa-90", "mixed")
SETS = (
    "spice-test-subset-wb97md3",
    "sn2-reactions-mp2",
    "molcrystals-x23-vdwdf2",
    "ethanol-methanol-botnet",
    "mattersim-mpf-TP",
    "mattersim-random-TP",
    "saidi-elements",
    "tio2-bulk",
    "ag-au-polymlp",
    "mvl-snap",
    "fitsnap-inp",
    "si-zeolites-pbe-d3",
)
"""Data sets of the task `mixed`."""


@dataclass(frozen=True)
class Base:
    """What the rows of a task start from: a configuration and changes of it."""

    config: str
    manifest: str
    overrides: tuple[str, ...]


# What configs/scratch/3bpa.yaml said before these results changed it.
_RECIPE = (
    "model.cutoff=5.0",
    "batch.max_atoms=135",
    "optimizer.weight_decay=0.001",
    "loss.forces_kind=norm",
    "loss.energy_kind=norm",
    "loss.energy=2",
    "final_loss.energy=10",
)
BASES = {
    "3bpa": Base("configs/scratch/3bpa.yaml", "data/scratch/3bpa/manifest.yaml", _RECIPE),
    "3bpa-90": Base(
        "configs/scratch/3bpa.yaml",
        "data/scratch/3bpa-90/manifest.yaml",
        (*_RECIPE, "log.validation_structures=100"),
    ),
    "mixed": Base(
        "configs/pretrain/small.yaml",
        "data/shared/manifest.yaml",
        (
            "default_heads=[]",
            "optimizer.kind=muon",
            "batch.max_atoms=320",
            "batch.max_edges=20000",
            "batch.workers=0",
            "batch.cache_mb=2000",
        ),
    ),
}


@dataclass(frozen=True)
class Row:
    """One training: the base with overrides of its configuration, or with other code (ablation_variants.py)."""

    topic: str
    name: str
    what: str
    overrides: tuple[str, ...] = ()
    variant: str | None = None
    tasks: tuple[str, ...] = TASKS


def _rows(topic: str, *rows: tuple[str, str, str], tasks: tuple[str, ...] = TASKS) -> list[Row]:
    """Make rows of (name, what, overrides as words)."""
    return [Row(topic, name, what, tuple(words.split()), tasks=tasks) for name, what, words in rows]


def _variants(topic: str, *rows: tuple[str, str]) -> list[Row]:
    """Make rows of (name, what) whose variant is of the same name."""
    return [Row(topic, name, what, variant=name) for name, what in rows]


ROWS = [
    Row("base", "base", "the base recipe"),
    *_rows(
        "layers and channels",
        ("layers-1", "1 layer", "model.n_layers=1"),
        ("layers-3", "3 layers", "model.n_layers=3"),
        ("channels-32", "32 channels, 64 scalars", "model.channels=32 model.scalar_channels=64"),
        ("channels-48", "48 channels", "model.channels=48"),
        ("channels-96", "96 channels", "model.channels=96"),
        ("l-max-2", "l up to 2", "model.l_max=2"),
        ("cutoff-4", "cutoff 4 A", "model.cutoff=4.0"),
        ("cutoff-6", "cutoff 6 A", "model.cutoff=6.0"),
    ),
    *_rows(
        "messages",
        ("radial-6", "6 radial functions", "model.radial_functions=6"),
        ("radial-12", "12 radial functions", "model.radial_functions=12"),
        ("senders-8", "8 sender channels", "model.sender_channels=8"),
        ("senders-32", "32 sender channels", "model.sender_channels=32"),
        ("tensors-8", "8 tensor channels", "model.tensor_channels=8"),
        ("tensors-32", "32 tensor channels", "model.tensor_channels=32"),
    ),
    *_variants(
        "messages",
        ("scalar-senders", "senders see no tensors"),
        ("no-pass-through", "tensors are not passed through"),
        ("scalars-only", "neither: scalar messages"),
        ("own-tensors", "own tensors join the density of the second layer"),
        ("late-4-32", "4 radial functions and 32 senders in the second layer"),
        ("late-radial-6", "6 radial functions in the second layer"),
        ("late-radial-4", "4 radial functions in the second layer"),
    ),
    *_rows("product", ("fourth", "invariants of four densities too", "model.fourth_order=true")),
    *_variants(
        "product",
        ("no-third", "invariants of two densities, and the product's own"),
        ("no-product", "invariants of two densities only"),
        ("lebedev", "the same product on a Lebedev grid"),
        ("clebsch-gordan", "Clebsch-Gordan product, a weight for each path"),
    ),
    *_rows("normalisation", ("neighbors-20", "mean_neighbors 20", "model.mean_neighbors=20")),
    *_variants(
        "normalisation",
        ("no-norm", "no soft normalisation"),
        ("rms-norm", "RMS norm instead"),
        ("rms-norm-per-l", "RMS norm for each degree"),
        ("degree-norm", "density over the root of the atom's own degree"),
    ),
    *_rows(
        "optimiser",
        ("adamw", "AdamW", "optimizer.kind=adamw"),
        ("adamw-double", "AdamW, rate x 2", "optimizer.kind=adamw optimizer.learning_rate=0.0025"),
        ("adamw-4", "AdamW, rate x 4", "optimizer.kind=adamw optimizer.learning_rate=0.005"),
        ("lr-double", "rate x 2", "optimizer.learning_rate=0.0025"),
        ("lr-half", "rate / 2", "optimizer.learning_rate=0.000625"),
        ("matrix-rate-2", "matrices at twice the rate", "optimizer.matrix_rate=2"),
        ("matrix-rate-half", "matrices at half the rate", "optimizer.matrix_rate=0.5"),
        ("momentum-90", "momentum 0.9", "optimizer.momentum=0.9"),
        ("no-weight-decay", "no weight decay", "optimizer.weight_decay=0"),
        ("weight-decay-50", "weight decay x 50", "optimizer.weight_decay=0.05"),
    ),
    *_rows(
        "loss",
        ("mse", "squares", "loss.forces_kind=mse loss.energy_kind=mse"),
        ("mae", "component MAE", "loss.forces_kind=mae"),
        ("huber", "Huber", "loss.forces_kind=huber loss.energy_kind=huber"),
        ("mse-energy-20", "squares, energy weight x 10", "loss.forces_kind=mse loss.energy_kind=mse loss.energy=20"),
        ("energy-mse", "squares for the energy", "loss.energy_kind=mse loss.energy=20"),
        ("final-mse", "squares in the decay", "final_loss.forces_kind=mse final_loss.energy_kind=mse"),
        ("energy-half", "energy weight / 4", "loss.energy=0.5"),
        ("energy-10", "energy weight x 5", "loss.energy=10"),
        ("final-energy-10", "energy weight x 5 in the decay", "final_loss.energy=10"),
    ),
    *_rows(
        "schedule",
        ("decay-20", "decay over a fifth", "optimizer.decay=0.2"),
        ("decay-80", "decay over four fifths", "optimizer.decay=0.8"),
        ("decay-100", "decay from the start", "optimizer.decay=1.0"),
        ("ema-none", "no average of the weights", "optimizer.ema_decay=0"),
        ("ema-98", "EMA 0.98", "optimizer.ema_decay=0.98"),
        ("ema-999", "EMA 0.999", "optimizer.ema_decay=0.999"),
    ),
    *_rows(
        "batch",
        ("batch-2", "2 molecules", "batch.max_atoms=54"),
        ("batch-3", "3 molecules", "batch.max_atoms=81"),
        ("batch-10", "10 molecules", "batch.max_atoms=270"),
        tasks=("3bpa", "3bpa-90"),
    ),
    *_rows(
        "batch",
        ("batch-half", "half as large", "batch.max_atoms=160 batch.max_edges=10000"),
        ("batch-double", "twice as large", "batch.max_atoms=640 batch.max_edges=40000"),
        tasks=("mixed",),
    ),
]


def find(name: str) -> Row:
    """Return the row of a name."""
    return next(row for row in ROWS if row.name == name)
