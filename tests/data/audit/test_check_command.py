"""`lam data check` with all it can do: comparing files, strict, JSON, plots, the corrected copy, samples."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from ase.io import read, write

from lam.cli.main import main
from lam.data.audit import Auditor, audit
from lam.data.audit.auditor import SAMPLE_BLOCK, sample_rows
from lam.data.audit.ledger import BLOCK, Ledger
from lam.data.describe import DataInput
from lam.data.shard_writer import ShardWriter
from lam.data.shards import Shard


@pytest.fixture
def save(tmp_path):
    """Return a function that writes structures to an extended XYZ file or a shard."""

    def write_file(name, structures):
        path = tmp_path / name
        if path.suffix == ".h5":
            with ShardWriter(path, level_of_theory="EMT") as writer:
                for structure in structures:
                    writer.append(structure)
        else:
            write(path, [structure.to_atoms(prefix="REF_") for structure in structures], format="extxyz")
        return path

    return write_file


def test_leakage_between_files(crystals, save, capsys):
    order = np.random.default_rng(0).permutation(len(crystals))
    train = save("train.xyz", [crystals[k] for k in order[:100]])
    test = save("test.xyz", [crystals[k] for k in order[100:]] + [crystals[order[0]]])
    assert main(["data", "check", str(train), str(test), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"train", "test", "between data sets"}
    leaks = [f for f in report["between data sets"] if f["kind"] == "leakage"]
    assert any("in both" in f["message"] and f["structures"] == ["test.xyz#20"] for f in leaks)
    assert any("share" in f["message"] and f["level"] == "warning" for f in leaks)  # groups run0-0, ...


def test_no_leakage_between_different_files(crystals, molecules, save, capsys):
    train, test = save("train.xyz", crystals), save("test.xyz", molecules)
    assert main(["data", "check", str(test), "--against", str(train)]) == 0
    assert "leakage" not in capsys.readouterr().out


def test_frames_of_one_trajectory_on_both_sides(more_molecules, save, capsys):
    start = more_molecules(("C6H6",), count=1)[0]
    rng, frames = np.random.default_rng(1), []
    positions = start.positions
    for number in range(80):
        positions = positions + rng.normal(scale=0.05, size=positions.shape)
        frames.append(replace(start, positions=positions, forces=None, group="", source=f"md#{number}"))
    train, test = save("a_train.xyz", frames[::2]), save("a_test.xyz", frames[1::2])
    main(["data", "check", str(train), str(test)])
    assert "are neighbouring frames of a trajectory" in capsys.readouterr().out


def test_strict_makes_warnings_errors(crystals, save, capsys):
    path = save("wrong.extxyz", [replace(s, stress=-s.stress) for s in crystals])
    levels = {}
    for options in ([], ["--strict"]):
        assert main(["data", "check", str(path), "--json", *options]) == 1
        levels[bool(options)] = {f["level"] for f in json.loads(capsys.readouterr().out)["wrong"]}
    assert "warning" in levels[False] and "warning" not in levels[True] and "error" in levels[True]
    assert main(["data", "check", str(save("right.extxyz", crystals)), "--strict"]) == 0


@pytest.mark.parametrize("endings", [("wrong.extxyz", "fixed.extxyz"), ("wrong.h5", "fixed.h5")])
def test_fix_does_what_is_certain_and_says_so(crystals, save, tmp_path, capsys, endings):
    wrong = [replace(s, stress=s.stress * -1602.17663, forces=-s.forces) for s in crystals]
    wrong += [replace(wrong[3], source="wrong#120"), replace(wrong[5], energy=1.0, source="wrong#121")]
    source, out = save(endings[0], wrong), tmp_path / endings[1]
    before = hashlib.sha256(source.read_bytes()).digest()
    assert main(["data", "check", str(source), "--fix", str(out)]) == 1
    assert "121 of 122 structures" in capsys.readouterr().out
    assert hashlib.sha256(source.read_bytes()).digest() == before
    fixed = list(DataInput("fixed", out).structures())
    assert len(fixed) == 121
    for k in (0, 33, 119):
        np.testing.assert_allclose(fixed[k].stress, crystals[k].stress, rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(fixed[k].forces, crystals[k].forces, atol=1e-6)
    log = json.loads((tmp_path / f"{endings[1]}.log.json").read_text())
    done = {(entry["what"], entry.get("label")) for entry in log["applied"]}
    assert done == {("scale", "forces"), ("scale", "stress"), ("drop", None)}
    assert any(f["kind"] == "contradictions" for f in log["left"])  # which of two energies is right is not certain
    assert "units" not in {f.kind for f in audit(DataInput("fixed", out)) if f.suspicious}
    if out.suffix == ".h5":
        assert Shard(out).attributes["level_of_theory"] == "EMT"


def test_fix_keeps_what_else_is_in_the_file(crystals, save, tmp_path):
    path = save("frames.extxyz", crystals[:30])
    frames = read(path, ":")
    for number, atoms in enumerate([*frames, frames[4]]):
        atoms.info["id"] = f"x{number}"
        atoms.arrays["magmom_of_atoms"] = np.full(len(atoms), 0.5)
    write(path, [*frames, frames[4]], format="extxyz")
    main(["data", "check", str(path), "--fix", str(tmp_path / "out.xyz")])
    fixed = read(tmp_path / "out.xyz", ":", format="extxyz")
    assert len(fixed) == 30 and fixed[7].info["id"] == "x7" and "magmom_of_atoms" in fixed[7].arrays


def test_fix_refuses_its_input_and_does_nothing_without_need(crystals, save, tmp_path, capsys):
    path = save("right.extxyz", crystals)
    assert main(["data", "check", str(path), "--fix", str(path)]) == 2
    assert "never changes its input" in capsys.readouterr().err
    assert main(["data", "check", str(path), "--fix", str(tmp_path / "out.txt")]) == 2
    assert main(["data", "check", str(path), "--fix", str(tmp_path / "out.xyz")]) == 0
    assert "no file was written" in capsys.readouterr().out and not (tmp_path / "out.xyz").exists()


def test_plots(crystals, save, tmp_path):
    path = save("c.extxyz", crystals)
    assert main(["data", "check", str(path), "--plots", str(tmp_path / "figures")]) == 0
    names = {file.name for file in (tmp_path / "figures").iterdir()}
    assert names == {f"c-{kind}.png" for kind in ("energies", "forces", "work", "distances", "elements")}
    assert all(file.stat().st_size > 5000 for file in (tmp_path / "figures").iterdir())


def test_what_frames_say_about_themselves(molecules, save, tmp_path):
    path = save("m.extxyz", molecules[:60])
    frames = read(path, ":")
    for number, atoms in enumerate(frames):
        atoms.info["functional"] = "PBE" if number % 2 else "wB97X"
        atoms.info["smiles"] = "[NH4+]"
        atoms.arrays["mulliken_charges"] = np.full(len(atoms), -1 / len(atoms))
    write(path, frames, format="extxyz")
    text = "\n".join(f.message for f in audit(DataInput("m", path)) if f.suspicious)
    assert "frames differ in 'functional': 'wB97X' (30); 'PBE' (30)" in text
    assert "60 structures are ions by name" in text and "partial charges of 60 structures sum to an ion's" in text


def test_a_sample_is_spread_and_said_to_be_one(crystals, save):
    path = save("c.h5", [replace(s, stress=-s.stress) for s in crystals])
    rows = sample_rows(1000, 100)
    assert rows[0] == 0 and rows[-1] == 999 and len(rows) <= 100 and (np.diff(rows) == 1).sum() > len(rows) / 2
    findings = audit(DataInput("c", path), sample=4 * SAMPLE_BLOCK)
    assert any(f.kind == "sample" and "of 120 structures" in f.message for f in findings)
    assert any("stress" in f.message for f in findings if f.suspicious)


def test_memory_is_bounded_and_overlaps_are_found_in_all(molecules):
    ledger = Ledger(limit=2 * BLOCK)
    for number in range(20 * BLOCK):
        ledger.add(replace(molecules[number % 50], source=f"m#{number}"))
    assert len(ledger) <= 2 * BLOCK and ledger.seen == 20 * BLOCK
    kept = ledger["index"]
    assert kept[0] == 0 and kept[-1] > 10 * BLOCK and (np.diff(kept) == 1).mean() > 0.9

    auditor = Auditor(limit=2 * BLOCK)
    for number in range(4 * BLOCK):
        near = number == 3 * BLOCK - 5
        structure = molecules[number % len(molecules)]
        if near:
            positions = structure.positions.copy()
            positions[1] = positions[0] + 0.1
            structure = replace(structure, positions=positions)
        auditor.update(replace(structure, source=f"m#{number}"))
    findings = {f.kind: f for f in auditor.findings()}
    assert findings["overlap"].structures == (f"m#{3 * BLOCK - 5}",) and "sample" in findings
