"""Runs of the labeller: nothing lost, nothing twice, whatever dies; failures with their reasons."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read, write

from lam.data.manifest import load_manifest
from lam.data.readers import read_structures
from lam.data.shards import Shard
from lam.errors import LamError
from lam.label.folder import read_done, run_folder
from lam.label.journal import Journal, read_journals, read_record
from lam.label.run import Settings, label


def fake(name, **options):
    return Settings(engine=f"ase:fakes.{name}", options=options, jobs=1)


def failures_of(report):
    return [json.loads(line) for line in report.failures_file.read_text().splitlines()]


def alive(pid):
    """Is a process still running (and no zombie)?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def energies(path):
    return [structure.energy for structure in read_structures(path)]


def springs(path):
    """Return the energies that the spring calculator gives, calculated directly."""
    from fakes import Springs

    found = []
    for atoms in read(path, ":"):
        atoms.calc = Springs()
        found.append(atoms.get_potential_energy())
    return found


# -- labels ------------------------------------------------------------------------------------


def test_labels_equal_direct_calls_and_carry_what_is_known(tmp_path):
    pytest.importorskip("tblite.ase")
    from tblite.ase import TBLite

    frames = [molecule("H2O"), molecule("NH3"), molecule("OH"), molecule("CH4")]
    for frame in frames:
        frame.set_initial_magnetic_moments(None)
    frames[1].info["total_charge"] = 1
    frames[2].info.update(group="radicals", REF_energy=float("nan"))  # bad labels of the input do not matter
    write(tmp_path / "in.extxyz", frames)
    report = label([tmp_path / "in.extxyz"], tmp_path / "out.extxyz.xz", Settings(jobs=1))
    assert (report.total, report.labelled, report.failures, report.duplicates) == (4, 4, {}, 0)
    assert report.failures_file is None and not (tmp_path / "out.failures.jsonl").exists()

    found = list(read_structures(tmp_path / "out.extxyz.xz"))
    states = [(s.total_charge, s.spin_multiplicity) for s in found]
    assert states == [(0, 1), (1, 2), (0, 2), (0, 1)]
    for structure, atoms, (charge, multiplicity) in zip(found, frames, states, strict=True):
        atoms.calc = TBLite(
            method="GFN1-xTB", verbosity=0, electronic_temperature=1500, accuracy=0.1,
            charge=int(charge), multiplicity=int(multiplicity),
        )  # fmt: skip
        assert structure.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
        np.testing.assert_allclose(structure.forces, atoms.get_forces(), atol=2e-8)
    assert [s.group for s in found] == ["H2O", "H3N", "radicals", "CH4"]
    first = read(tmp_path / "out.extxyz.xz", 0)
    assert first.info["level_of_theory"].startswith("GFN1-xTB") and first.info["source"] == "in.extxyz#0"
    assert "GFN1-xTB" in (tmp_path / "out.metadata.yaml").read_text()


def test_a_shard_is_ready_for_training(trimers, tmp_path):
    settings = Settings(engine="ase:fakes.Springs", jobs=1, level_of_theory="springs", licence="CC0-1.0")
    report = label([trimers(3)], tmp_path / "out.h5", settings)
    assert report.labelled == 3
    shard = Shard(tmp_path / "out.h5")
    assert shard.energies.tolist() == pytest.approx(springs(tmp_path / "trimers.extxyz"), abs=1e-7)
    for key, value in (("level_of_theory", "springs"), ("licence", "CC0-1.0"), ("engine", "ase:fakes.Springs")):
        assert shard.attributes[key] == value
    assert "engine_version" in shard.attributes and json.loads(shard.attributes["engine_settings"]) == {}
    (spec,) = load_manifest(tmp_path / "out.yaml").datasets
    assert spec.path == (tmp_path / "out.h5").resolve() and spec.level_of_theory == "springs"

    again = label([tmp_path / "out.h5"], tmp_path / "again.h5", settings)  # a shard can be labelled, too
    assert again.labelled == 3


def test_structures_that_occur_twice_are_labelled_once(trimers, tmp_path):
    path = trimers(3)
    report = label([path, path], tmp_path / "out.extxyz", fake("Springs", log=str(tmp_path / "log")))
    assert (report.labelled, report.duplicates) == (3, 3)
    assert len((tmp_path / "log").read_text().splitlines()) == 3


# -- failures ----------------------------------------------------------------------------------


def test_every_failure_has_its_reason_and_stops_nothing(trimers, tmp_path):
    path = trimers(7, {1: "He", 3: "Ne", 4: "Ar"})
    with open(path, "a") as file:
        file.write("1\nProperties=species:S:1:pos:R:3\nX 0 0 0\n")
    report = label([path], tmp_path / "out.extxyz", fake("Troubled"))
    assert (report.total, report.labelled) == (8, 4)
    assert report.failures == {"error": 1, "crash": 1, "invalid": 2}
    found = {entry["source"].partition("#")[2]: (entry["kind"], entry["reason"]) for entry in failures_of(report)}
    assert found["1"] == ("error", "RuntimeError: no basis for helium")
    assert found["3"][0] == "crash" and "SIGABRT" in found["3"][1] and "neon is too noble" in found["3"][1]
    assert found["4"][0] == "invalid" and "energy is nan" in found["4"][1]
    assert found["7"][0] == "invalid" and "atomic number 0" in found["7"][1]


def test_failures_are_tried_again_only_when_asked(trimers, tmp_path):
    log = tmp_path / "log"
    arguments = [trimers(4, {1: "He"})], tmp_path / "out.extxyz", fake("Troubled", log=str(log))
    label(*arguments)
    assert len(log.read_text().splitlines()) == 4
    report = label(*arguments, resume=True)
    assert (report.labelled, report.failures, report.calculated) == (3, {"error": 1}, 0)
    assert len(log.read_text().splitlines()) == 4
    report = label(*arguments, resume=True, retry_failures=True)
    assert (report.labelled, report.failures, report.calculated) == (3, {"error": 1}, 1)


@pytest.mark.parametrize("name", ["Sleeper", "Hanging"])
def test_a_time_limit_ends_any_calculation(name, trimers, tmp_path):
    log = tmp_path / "log"
    settings = Settings(engine=f"ase:fakes.{name}", options={"log": str(log)}, jobs=1, time_limit=1.0)
    begin = time.monotonic()
    report = label([trimers(4, {2: "Ar"})], tmp_path / "out.extxyz", settings)
    assert time.monotonic() - begin < 60
    assert (report.labelled, report.failures) == (3, {"time limit": 1})
    assert failures_of(report)[0]["reason"] == "stopped after 1 s"
    pids = {int(line.split()[0]) for line in log.read_text().splitlines()}
    assert len(pids) >= 2
    wait_until(lambda: not any(map(alive, pids)), 10)  # the process and the program that it had started


def test_forces_can_be_limited_without_calculating_again(trimers, tmp_path):
    path, log = trimers(5), tmp_path / "log"
    settings = fake("Springs", log=str(log))
    label([path], tmp_path / "out.extxyz", settings)
    largest = [np.linalg.norm(s.forces, axis=1).max() for s in read_structures(tmp_path / "out.extxyz")]
    limit = float(np.median(largest))
    limited = Settings(engine=settings.engine, options=settings.options, jobs=1, max_force=limit + 1e-9)
    report = label([path], tmp_path / "out.extxyz", limited, resume=True)
    assert (report.labelled, report.failures, report.calculated) == (3, {"max force": 2}, 0)
    assert len(log.read_text().splitlines()) == 5


def test_a_state_that_the_engine_cannot_have_is_a_failure(tmp_path):
    pytest.importorskip("tblite.ase")
    frames = [Atoms("H", info={"spin": 1}), Atoms("H", info={"spin": 2}), bulk("Si")]
    write(tmp_path / "in.extxyz", frames)
    report = label([tmp_path / "in.extxyz"], tmp_path / "out.extxyz", Settings(jobs=1))
    assert (report.labelled, report.failures) == (1, {"refused": 2})
    reasons = [entry["reason"] for entry in failures_of(report)]
    assert "multiplicity of 1 is impossible" in reasons[0] and "only the Gamma point" in reasons[1]


# -- periodic cells ----------------------------------------------------------------------------


def test_one_cell_of_a_family_is_checked_for_all(tmp_path):
    pytest.importorskip("tblite.ase")
    rng = np.random.default_rng(0)
    frames = []
    for symbol, a, group in (("He", 4.0, "helium"), ("H", 2.7, "metal")):
        for _ in range(3):
            atoms = bulk(symbol, "sc", a=a).repeat(3)
            atoms.info["group"] = group
            atoms.rattle(0.02, rng=rng)
            frames.append(atoms)
    write(tmp_path / "in.extxyz", frames)
    arguments = [tmp_path / "in.extxyz"], tmp_path / "out.h5", Settings(jobs=1)
    report = label(*arguments)
    assert (report.labelled, report.failures) == (3, {"not extensive": 3})
    assert report.calculated == 4  # of the metal only the one that was compared with a larger cell
    assert all(structure.stress is not None for structure in Shard(tmp_path / "out.h5"))
    records = [record for record, _ in read_journals(run_folder(tmp_path / "out.h5"))]
    assert sum("extensivity" in record for record in records) == 1
    assert sum("like that of" in record.get("reason", "") for record in records) == 2
    write(tmp_path / "in.extxyz", [*frames, frames[0].copy()])  # the same again: nothing to do
    assert label(*arguments, resume=True).calculated == 0
    frames[0].rattle(0.02, seed=9)
    write(tmp_path / "in.extxyz", frames)
    assert label(*arguments, resume=True).calculated == 1  # what is known of its family is not asked again
    records = [record for record, _ in read_journals(run_folder(tmp_path / "out.h5"))]
    assert sum("extensivity" in record for record in records) == 1


# -- resuming ----------------------------------------------------------------------------------


def test_a_killed_driver_loses_nothing(trimers, tmp_path):
    log, out = tmp_path / "log", tmp_path / "out.extxyz"
    command = [
        sys.executable, "-m", "lam", "label", str(trimers(30)), "-o", str(out), "--engine", "ase:fakes.Springs",
        "--jobs", "1", "--option", f"log={log}", "--option", "seconds=0.1",
    ]  # fmt: skip
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_until(lambda: log.exists() and len(log.read_text().splitlines()) > 8)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    assert not out.exists()
    calculating = int(log.read_text().split()[0])
    wait_until(lambda: not alive(calculating), 10)
    kept = len(read_done(run_folder(out)))
    assert kept >= 8

    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "30 of 30" in done.stdout
    assert energies(out) == pytest.approx(springs(tmp_path / "trimers.extxyz"), abs=1e-7)
    assert [read(out, row).info["source"] for row in range(30)] == [f"trimers.extxyz#{row}" for row in range(30)]
    calculated = Counter(line.split()[1] for line in log.read_text().splitlines())
    assert len(calculated) == 30 and sum(calculated.values()) <= 31  # again only what was under way
    records = [record["key"] for record, _ in read_journals(run_folder(out))]
    assert len(records) == len(set(records)) == 30


def test_a_line_that_was_cut_off_is_as_if_it_were_not_there(tmp_path):
    journal = Journal(tmp_path)
    for number in range(3):
        journal.append({"key": str(number), "labels": {"energy": 0.1 * number}})
    journal.close()
    whole = journal.path.read_bytes()
    for cut in (1, 10, len(whole.splitlines(keepends=True)[-1]) - 1):
        journal.path.write_bytes(whole[:-cut])
        assert [record["key"] for record, _ in read_journals(tmp_path)] == ["0", "1"]
    garbled = bytearray(whole)
    garbled[len(whole) // 2] ^= 1
    journal.path.write_bytes(bytes(garbled))
    assert [record["key"] for record, _ in read_journals(tmp_path)] == ["0", "2"]
    journal.path.write_bytes(whole)
    for record, place in read_journals(tmp_path):
        assert read_record(place) == record


def test_a_run_goes_on_only_with_the_same_settings(trimers, tmp_path):
    path, out = trimers(2), tmp_path / "out.extxyz"
    label([path], out, fake("Springs"))
    with pytest.raises(LamError, match="--resume"):
        label([path], out, fake("Springs"))
    with pytest.raises(LamError, match=r"was made with .*must not mix"):
        label([path], out, fake("Springs", seconds=0.01), resume=True)
    assert label([path], out, fake("Springs", seconds=0.01), overwrite=True).calculated == 2
    for going_on in ({"resume": True}, {"collect_only": True}):  # the folder of its run is gone: nothing may replace it
        other = tmp_path / "other.extxyz"
        other.write_bytes(out.read_bytes())
        with pytest.raises(LamError, match="no results"):
            label([path], other, fake("Springs"), **going_on)
        assert other.read_bytes() == out.read_bytes()
    more = trimers(5)
    assert label([more], out, fake("Springs", seconds=0.01), resume=True).calculated == 3  # inputs may grow


def test_what_there_is_can_be_collected(trimers, tmp_path):
    path, out = trimers(6), tmp_path / "out.extxyz"

    def stop(progress):
        if progress.done >= 2:
            raise KeyboardInterrupt

    settings = fake("Springs", seconds=0.6)
    with pytest.raises(KeyboardInterrupt):
        label([path], out, settings, progress=stop)
    report = label([path], out, settings, collect_only=True)
    assert 2 <= report.labelled < 6 and report.calculated == 0
    assert len(energies(out)) == report.labelled
    assert label([path], out, settings, resume=True).labelled == 6


def test_two_runs_into_one_folder_are_refused(trimers, tmp_path):
    from lam.label.folder import claimed

    path, out = trimers(2), tmp_path / "out.extxyz"
    with claimed(run_folder(out)), pytest.raises(LamError, match="Another process"):
        label([path], out, fake("Springs"))


def test_wrong_requests_are_sentences(trimers, tmp_path):
    path = trimers(2)
    for out, words in (("out.txt", "must end in"), ("trimers.extxyz", "also an input"), ("out.h5.xz", "must end in")):
        with pytest.raises(LamError, match=words):
            label([path], tmp_path / out, fake("Springs"))
    with pytest.raises(LamError, match="There is no file"):
        label([tmp_path / "missing.xyz"], tmp_path / "out.extxyz", fake("Springs"))
    with pytest.raises(LamError, match="time limit must be positive"):
        label([path], tmp_path / "o.extxyz", Settings(time_limit=0))
    with pytest.raises(LamError, match="not both"):
        label([path], tmp_path / "p.extxyz", Settings(engine="ase:fakes.Springs", scheduler="tcp://x:1", cluster="pbs"))
