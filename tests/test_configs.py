"""The configurations in configs/ are valid."""

from pathlib import Path

import pytest

from lam.config import load_config
from lam.data.convert import MetadataTable
from lam.model import Potential
from lam.model.heads import HeadInfo
from lam.train.config import PretrainConfig
from lam.train.config_finetune import FinetuneConfig

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.mark.parametrize("file", sorted((CONFIGS / "pretrain").glob("*.yaml")), ids=lambda file: file.stem)
def test_pretraining(file):
    config = load_config(PretrainConfig, file)
    assert config.name == f"lam-{file.stem}"
    architecture = config.model_config_of_run()
    model = Potential(architecture, [HeadInfo(name=name) for name in config.default_heads])
    assert sum(parameter.numel() for parameter in model.parameters()) > 100_000


@pytest.mark.parametrize("file", sorted((CONFIGS / "finetune").glob("*.yaml")), ids=lambda file: file.stem)
def test_fine_tuning(file):
    assert load_config(FinetuneConfig, file).method == file.stem


@pytest.mark.parametrize("file", sorted((CONFIGS / "scratch").glob("*.yaml")), ids=lambda file: file.stem)
def test_training_from_scratch(file):
    config = load_config(PretrainConfig, file)
    config.loss_of_decay()
    model = Potential(config.model_config_of_run(), [HeadInfo(name=file.stem)])
    assert sum(parameter.numel() for parameter in model.parameters()) > 10_000
    assert config.name == file.stem and config.manifest == f"data/scratch/{file.stem}/manifest.yaml"
    assert (file.parent / "data" / file.name).exists()


def test_metadata_of_the_shared_data():
    table = load_config(MetadataTable, CONFIGS / "data" / "shared.yaml")
    default_heads = load_config(PretrainConfig, CONFIGS / "pretrain" / "nano.yaml").default_heads
    assert set(default_heads) <= set(table.datasets)
    assert all(entry.level_of_theory and entry.licence for entry in table.datasets.values())
