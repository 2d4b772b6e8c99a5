"""Structures in place of those without a label."""

import json
from pathlib import Path

import pytest
import yaml

from lam.corpus import pipeline, publish
from lam.corpus.pipeline import Corpus
from lam.corpus.refill import MAX_ATOMS, lost_labels, refill_name

OPTIONS = (("state", "ignore"),)
CHOSEN = ("inorganic", "dimers", "droplets")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Return a corpus labelled by an engine that fails for half of them, its results, and one round more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        corpus = Corpus(
            tmp_path_factory.mktemp("refill"), 24, 1, engine="ase:corpus_fakes.Picky", options=OPTIONS, names=CHOSEN
        )
        pipeline.make_structures(corpus, lambda text: None)
        results = pipeline.make_labels(corpus, list(corpus.families), lambda text: None)
        again = pipeline.make_refills(corpus, 1, results, lambda text: None)
        before = dict(results)
        results |= pipeline.make_labels(corpus, again, lambda text: None)
    return corpus, before, again, results


def test_as_many_as_were_lost(labelled):
    corpus, before, again, _ = labelled
    lost = {name: lost_labels(name, 1, before) for name in CHOSEN}
    assert lost["inorganic"] > 0 and lost["dimers"] > 0
    assert [family.name for family in again] == [
        refill_name(name, 1) for name in ("inorganic", "dimers")
    ]  # no droplets
    for family in again:
        frames = pipeline.read_frames(corpus.file(family.name))
        assert len(frames) == lost[family.origin]
        assert max(map(len, frames)) <= MAX_ATOMS


def test_they_differ_and_belong_to_their_family(labelled):
    corpus, _, again, _ = labelled
    for family in again:
        frames = pipeline.read_frames(corpus.file(family.name))
        first = {str(atoms.positions.tolist()) for atoms in pipeline.read_frames(corpus.file(family.origin))}
        assert not first & {str(atoms.positions.tolist()) for atoms in frames}
        # Named by the family: a composition that is met again is of the same group in a split.
        assert all(atoms.info["group"].startswith(f"{family.origin}-") for atoms in frames)


def test_what_is_planned_stays(labelled):
    corpus, before, again, _ = labelled
    plan = json.loads((corpus.folder / "plan.json").read_text())
    assert set(plan["families"]) == {*CHOSEN, *(family.name for family in again)}
    assert pipeline.verify(corpus) == []
    told = []
    assert pipeline.make_structures(corpus, told.append) == plan
    assert pipeline.make_refills(corpus, 1, before, told.append) == again and told == []


def test_a_second_round_follows_the_first(labelled):
    _, _, again, results = labelled
    lost = {family.origin: lost_labels(family.origin, 2, results) for family in again}
    assert lost == {f.origin: results[f.name]["structures"] - results[f.name]["labelled"] for f in again}
    assert lost_labels("droplets", 2, results) == 0  # there was no first one


def test_settings_are_stated(labelled):
    corpus, _, again, results = labelled
    families = [*corpus.families, *again]
    publish.convert_labels(corpus, families, results, publish.leave_out_collapsed(corpus, families, results))
    table = yaml.safe_load((corpus.folder / "labels" / "metadata.yaml").read_text())["datasets"]
    (notes,) = (entry["notes"] for entry in table.values())
    assert "inorganic" in notes and "inorganic-again1" in notes
    assert "largest force kept 50 eV/A" in notes and "largest force kept 100 eV/A" in notes and "time limit" in notes
