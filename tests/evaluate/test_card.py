"""Model cards: what they take from checkpoint and report, and what they refuse."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import yaml

from lam.checkpoint import CheckpointMetadata, save_checkpoint
from lam.errors import LamError
from lam.evaluate.card import readme_numbers, write_card
from lam.evaluate.card_sources import physics_checks
from lam.evaluate.card_tables import element_table
from lam.evaluate.report import FORMAT_NAME, FORMAT_VERSION, summarise
from lam.testing import physics, tiny_potential

ROOT = Path(__file__).resolve().parents[2]


def entry(name, ratio, baseline=400.0, stress=None):
    """Return one data set of a report as `lam eval` writes it."""
    forces = {"mae": ratio * baseline, "baseline_mae": baseline, "ratio_mae": ratio, "ratio_rmse": ratio}
    energy = {"mae": 12.34, "baseline_mae": 56.78, "refitted": False}
    return {
        "name": name, "head": name, "own_head": True, "split": "test", "n_structures": 7, "n_skipped": 0,
        "skipped_elements": {}, "energy": energy, "forces": forces, "stress": stress, "informative": baseline > 50,
    }  # fmt: skip


@pytest.fixture
def report(tmp_path):
    """Return the path of a report on the tiny model's two heads, one of them near-relaxed."""
    entries = [entry("mol", 0.37), entry("cryst", 2.5, baseline=3.0, stress={"mae": 1.25, "baseline_mae": 4.5})]
    values = {"format": FORMAT_NAME, "format_version": FORMAT_VERSION, "lam_version": "9.9", "model": "tiny"}
    values |= {"datasets": entries, "elements": {}, "summary": summarise(entries)}
    path = tmp_path / "report.json"
    path.write_text(json.dumps(values))
    return path


@pytest.fixture
def model(tmp_path):
    """Return the folder of the tiny model with a record of its training."""
    training = {"steps": 1234, "seconds_of_last_run": 7200.0, "splits": {"mol": "group", "cryst": "block"}}
    save_checkpoint(tmp_path / "tiny", tiny_potential(), metadata=CheckpointMetadata(name="tiny", training=training))
    return tmp_path / "tiny"


@pytest.fixture
def card(model, report, tmp_path):
    """Return the path of a written card, and what it was made of."""
    (tmp_path / "card.notes.md").write_text("* It **cannot** do `everything`.\n")
    domains = {"molecules": ["mol"], "crystals": ["cryst"]}
    made = write_card(model, report, tmp_path / "card.md", cost={"hardware": "an abacus"}, domains=domains)
    return tmp_path / "card.md", made


def test_front_matter_is_yaml_with_the_results(card):
    _, matter, page = card[0].read_text().split("---\n", 2)
    values = yaml.safe_load(matter)
    assert values["license"] == "other" and values["library_name"] == "lam"
    results = {r["dataset"]["name"]: r["metrics"][0]["value"] for r in values["model-index"][0]["results"]}
    assert results == {"all held-out splits (1 data set)": 0.37, "molecules (1 data set)": 0.37}
    assert page.lstrip().startswith("# tiny")


def test_page_takes_everything_from_its_sources(card):
    page = card[0].read_text()
    assert "* It **cannot** do `everything`." in page  # the notes, as they are
    assert "| hardware | an abacus |" in page
    assert "| optimiser steps | 1,234 |" in page and "2.00 h" in page
    assert "| mol | wB97X/6-31G(d) | MIT | H C O | no | group | 30 |" in page
    assert "| cryst | PBE | CC-BY-4.0 | O Si Cu | yes | block | 12 |" in page
    assert "* mol: charges 0, +1; multiplicities 1, 2" in page
    assert "Not run for this card." in page


def test_near_relaxed_sets_are_apart(card):
    page = card[0].read_text()
    fair, apart = page.split("### By data set")[1].split("### Apart")
    assert "| mol | 7 | 12.3 | 56.8 | 148.0 | 400.0 | 0.37 | - | - |" in fair and "cryst" not in fair
    assert "| cryst | 7 | 12.3 | 56.8 | 7.5 | 3.0 | 2.50 | 1.25 | 4.50 |" in apart and "mol |" not in apart


def test_elements_with_few_structures_are_named(card):
    page = card[0].read_text()
    assert "Fewer than 50 training structures: H (30), C (20), O (15), Si (5), Cu (7)." in page


def test_element_table_puts_counts_below_symbols():
    lines = element_table({"H": 7, "O": 12345, "U": 3}).splitlines()
    for symbol, count in (("H", "7"), ("O", "12345"), ("U", "3")):
        row = next(i for i, line in enumerate(lines) if symbol in line.split())
        end = lines[row].split(symbol)[0].__len__() + len(symbol)
        assert lines[row + 1][:end].endswith(count)
    assert not any("Ce" in line for line in lines)  # rows without a covered element are left out


def test_numbers_for_the_readme(card):
    numbers = readme_numbers(card[1], "lam eval tiny data")
    assert "| force error / zero forces, median | 0.370 |" in numbers
    assert "| data sets better than zero forces | 1 of 1 |" in numbers
    assert "`lam eval tiny data`" in numbers


def test_physics_checks_say_what_holds_and_what_fails(model, monkeypatch):
    def broken(*args, **kwargs):
        raise AssertionError("forces are upside down\nand more")

    monkeypatch.setattr(physics, "check_forces", broken)
    results = dict(physics_checks(model))
    assert results["rotation"] == results["permutation"] == "holds"
    assert results["forces are gradients"] == "FAILS: forces are upside down"


def test_no_card_without_known_failures(model, report, tmp_path):
    with pytest.raises(LamError, match="known failures"):
        write_card(model, report, tmp_path / "other.md", cost={})
    assert not (tmp_path / "other.md").exists()


def test_report_of_another_model_is_refused(model, report, tmp_path):
    values = json.loads(report.read_text())
    values["datasets"][0]["head"] = "stranger"
    report.write_text(json.dumps(values))
    (tmp_path / "card.notes.md").write_text("none")
    with pytest.raises(LamError, match=r"another model.*stranger"):
        write_card(model, report, tmp_path / "card.md", cost={})
    assert not (tmp_path / "card.md").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "There is no report"),
        ("{", "not valid JSON"),
        ("[]", "no report"),
        ('{"format": "lam-evaluation", "format_version": 99}', "newer"),
    ],
)
def test_wrong_reports_are_refused(text, message, model, tmp_path):
    (tmp_path / "card.notes.md").write_text("none")
    if text is not None:
        (tmp_path / "r.json").write_text(text)
    with pytest.raises(LamError, match=message):
        write_card(model, tmp_path / "r.json", tmp_path / "card.md", cost={})


# -- the script -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script():
    """Return model_cards/write_card.py as a module."""
    spec = importlib.util.spec_from_file_location("write_card_script", ROOT / "model_cards" / "write_card.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_script_writes_card_and_fills_the_readme(script, card, model, report, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{script.BEGIN}\nold\n{script.END}\nafter\n")
    arguments = [str(model), str(report), "--out", str(card[0]), "--readme", str(readme), "--no-physics"]
    assert script.main([*arguments, "--cost", "hardware=two cores"]) == 0
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text and "0.370" in text
    assert "| hardware | two cores |" in card[0].read_text()
    assert script.main(arguments) == 0 and readme.read_text() == text  # filling again changes nothing


def test_script_says_what_is_wrong(script, model, report, card, tmp_path, capsys):
    (tmp_path / "bare.md").write_text("no marks\n")
    arguments = [str(model), str(report), "--out", str(card[0]), "--no-physics"]
    assert script.main([*arguments, "--readme", str(tmp_path / "bare.md")]) == 2
    assert "numbers:begin" in capsys.readouterr().err
    assert script.main([*arguments, "--no-readme", "--cost", "hardware"]) == 2
    assert "key=value" in capsys.readouterr().err


def test_every_data_set_has_one_domain():
    domains = yaml.safe_load((ROOT / "model_cards" / "domains.yaml").read_text())
    known = yaml.safe_load((ROOT / "configs" / "data" / "shared.yaml").read_text())["datasets"]
    named = [name for names in domains.values() for name in names]
    assert sorted(named) == sorted(known)
