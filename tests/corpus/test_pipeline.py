"""From one number and a seed to audited shards; what is finished is kept."""

import importlib.util
import json
from pathlib import Path

import pytest

from lam.corpus import pipeline
from lam.corpus.pipeline import Corpus
from lam.data.shards import open_shard
from lam.errors import LamError

SCRIPT = Path(__file__).resolve().parents[2] / "data_prep" / "corpus.py"
TOTAL = 26


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))  # for the calculator of the tests
    spec = importlib.util.spec_from_file_location("corpus_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture(scope="module")
def structures(tmp_path_factory):
    corpus = Corpus(tmp_path_factory.mktemp("plan"), TOTAL, seed=4)
    return corpus, pipeline.make_structures(corpus, lambda text: None)


def test_structures_are_kept_and_made_again(structures):
    corpus, plan = structures
    assert pipeline.verify(corpus) == []
    told = []
    assert pipeline.make_structures(corpus, told.append) == plan and told == []
    lost = corpus.file("inorganic")
    lost.unlink()
    # The families before it are read from their files: what is covered is the same, and so is what is built.
    assert pipeline.make_structures(corpus, told.append) == plan and len(told) == 1
    frames = pipeline.read_frames(lost)
    frames[0].positions[0, 0] += 0.01
    pipeline.write_frames(lost, frames)
    assert pipeline.verify(corpus) == ["inorganic"]
    lost.unlink()
    pipeline.make_structures(corpus, told.append)


def test_another_plan_needs_another_folder(structures):
    with pytest.raises(LamError, match="new folder"):
        pipeline.make_structures(Corpus(structures[0].folder, TOTAL, seed=5), lambda text: None)


def test_commands_name_the_method(structures):
    corpus, _ = structures
    commands = {family.name: pipeline.command(corpus, family) for family in corpus.families}
    assert "--engine gfn2" in commands["molecules"] and "--engine gfn1" in commands["clusters"]
    assert all(command.startswith("lam label ") for command in commands.values())


@pytest.mark.slow
def test_one_command_makes_shards_and_goes_on(script, tmp_path, capsys):
    command = [
        str(tmp_path / "c"),
        "--structures",
        str(TOTAL),
        "--engine",
        "ase:corpus_fakes.Weak",
        "--option",
        "state=ignore",
    ]
    assert script([*command, "--stop-after", "dynamics"]) == 0
    assert not (tmp_path / "c" / "data").exists()
    assert script(command) == 0
    plan = json.loads((tmp_path / "c" / "plan.json").read_text())
    results = {path.name: json.loads(path.read_text()) for path in (tmp_path / "c" / "labels").glob("*.result.json")}
    labelled = sum(result["labelled"] for result in results.values())
    assert labelled == sum(result["structures"] for result in results.values()) >= TOTAL - 2
    shard = open_shard(tmp_path / "c" / "data" / "corpus-ase-corpus_fakes-Weak.h5")
    assert len(shard) == labelled
    assert any(structure.total_charge for structure in shard)
    for name in ("report.md", "periodic_table.png", "pairs.png", "pairs.csv"):
        assert (tmp_path / "c" / "report" / name).stat().st_size > 300
    summary = json.loads((tmp_path / "c" / "report" / "summary.json").read_text())
    assert summary["seed"] == 0 and summary["coverage"]["labelled"]["structures"] == labelled
    for name, family in summary["families"].items():
        assert family["labelled"] == results[f"{name}.result.json"]["labelled"]
        assert name.startswith("dynamics") or family["fingerprint"] == plan["families"][name]["fingerprint"]
    capsys.readouterr()
    assert script(command) == 0
    assert "labelled in" not in capsys.readouterr().out  # nothing was labelled again
    assert json.loads((tmp_path / "c" / "plan.json").read_text()) == plan


def test_a_stopped_run_of_dynamics_goes_on(structures, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    first = structures[0]
    corpus = Corpus(first.folder, TOTAL, 4, engine="ase:corpus_fakes.Weak", options=(("state", "ignore"),))
    pipeline.make_dynamics(corpus, lambda text: None)
    file = corpus.file("dynamics-gfn1")
    before = file.read_bytes()
    run = file.parent / "dynamics-gfn1.run"
    kept = sorted(run.glob("*.extxyz"))
    file.unlink()
    times = [path.stat().st_mtime_ns for path in kept]
    pipeline.make_dynamics(corpus, lambda text: None)
    assert file.read_bytes() == before
    assert [path.stat().st_mtime_ns for path in kept] == times


def test_wrong_use_is_told(script, tmp_path, capsys):
    assert script([str(tmp_path / "x"), "--structures", "3"]) == 2
    assert script([str(tmp_path / "x"), "--option", "a=1"]) == 2
    assert "--engine" in capsys.readouterr().err
