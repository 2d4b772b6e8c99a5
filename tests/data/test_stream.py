"""Conversions in parts: resumed after a kill without loss or repetition, broken frames recorded, layouts changed."""

import gzip
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from ase.io import write

import lam
from lam.data.convert import convert
from lam.data.manifest import load_manifest
from lam.data.recipes.base import Label, Part, Recipe, cut, files_with
from lam.data.shard_folder import UNFINISHED, Shards
from lam.data.shards import Shard, open_shard
from lam.data.stream_plan import Job, fingerprint, plan_jobs
from lam.data.stream_work import write_job
from lam.data.stream_xyz import read_xyz_part, xyz_parts
from lam.data.structure import Structure
from lam.errors import LamError


def _structure(number, source):
    rng = np.random.default_rng(number)
    return Structure(
        numbers=np.array([8, 1, 1]),
        positions=np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]) + rng.normal(scale=0.02, size=(3, 3)),
        cell=np.zeros((3, 3)),
        pbc=np.zeros(3, dtype=bool),
        energy=-10.0 - number,
        group=f"g{number // 7}",
        source=f"{source.name}#{number}",
    )


def read_made(part):
    """Read a file of numbers: one makes a structure, a word a broken frame, "stop" the end."""
    words = part.path.read_text().split()
    for word in words[part.start : part.stop]:
        if word == "stop":
            raise LamError(f"{part.path.name} ends here.")
        yield _structure(int(word), part.path) if word.isdecimal() else LamError(f"{part.path.name}#{word}: broken.")


def parts_of_made(path):
    """Ten frames are a part."""
    return cut(path, len(path.read_text().split()), 10)


MADE = Recipe(
    name="made",
    title="numbers",
    level_of_theory="by hand",
    licence="MIT",
    doi="10.1/made",
    files="*.made",
    labels=(Label("energy", "number", "eV"),),
    find=files_with(".made"),
    parts=parts_of_made,
    read=read_made,
)


def _write_made(path, words):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(" ".join(map(str, words)))
    return path


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    _write_made(folder / "a.made", range(35))
    _write_made(folder / "b.made", range(100, 112))
    return folder


def _energies(path):
    return [structure.energy for structure in open_shard(path)]


@pytest.mark.parametrize("jobs", [1, 3])
def test_large_sources_become_several_shards(source, tmp_path, jobs):
    states = []
    (result,) = convert(
        [source], tmp_path / "out", recipe=MADE, jobs=jobs, progress=lambda s: states.append(s.structures)
    )
    assert (result.name, result.structures, result.atoms, result.shards, result.skipped) == ("made", 47, 141, 6, False)
    assert states[-1] == 47 and states == sorted(states)
    assert sorted(path.name for path in result.path.iterdir()) == ["index.h5", *(f"part-{n:05d}.h5" for n in range(6))]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["made", "manifest.yaml"]
    assert _energies(result.path) == [-10.0 - n for n in (*range(35), *range(100, 112))]
    (spec,) = load_manifest(tmp_path / "out").datasets
    assert spec.path == result.path.resolve()
    assert (spec.level_of_theory, spec.licence, spec.source) == ("by hand", "MIT", "https://doi.org/10.1/made")
    assert Shards(result.path).attributes["recipe"] == "made"
    (again,) = convert([source], tmp_path / "out", recipe=MADE, jobs=jobs)
    assert again.skipped and again.structures == 47


def test_only_what_is_missing_is_done_again(source, tmp_path):
    (result,) = convert([source], tmp_path / "out", recipe=MADE)
    before = {path.name: path.stat().st_mtime_ns for path in result.path.glob("part-*.h5")}
    (result.path / "part-00002.h5").unlink()
    (result.path / "part-00004.h5").write_bytes((result.path / "part-00004.h5").read_bytes()[:3000])
    (result,) = convert([source], tmp_path / "out", recipe=MADE)
    after = {path.name: path.stat().st_mtime_ns for path in result.path.glob("part-*.h5")}
    assert {name for name in after if before.get(name) != after[name]} == {"part-00002.h5", "part-00004.h5"}
    assert not result.skipped and _energies(result.path) == [-10.0 - n for n in (*range(35), *range(100, 112))]


def test_a_changed_source_changes_the_shards(source, tmp_path):
    list(convert([source], tmp_path / "out", recipe=MADE))
    _write_made(source / "a.made", range(8))
    _write_made(source / "b.made", range(200, 203))
    (result,) = convert([source], tmp_path / "out", recipe=MADE)
    assert result.shards == 1 and result.path == tmp_path / "out" / "made.h5"
    assert _energies(result.path) == [-10.0 - n for n in (*range(8), *range(200, 203))]
    assert not (tmp_path / "out" / "made").exists()
    _write_made(source / "a.made", range(60))
    (result,) = convert([source], tmp_path / "out", recipe=MADE)
    assert result.structures == 63 and not (tmp_path / "out" / "made.h5").exists()
    _write_made(source / "a.made", range(20))
    (result,) = convert([source], tmp_path / "out", recipe=MADE)
    assert _energies(result.path) == [-10.0 - n for n in (*range(20), *range(200, 203))]


def test_small_sources_share_shards_and_many_parts_are_joined(tmp_path, monkeypatch):
    files = [_write_made(tmp_path / f"{n:03d}.made", range(n, n + 3)) for n in range(12)]
    assert len(plan_jobs("x", files, MADE, tmp_path, {})) == 1
    big = _write_made(tmp_path / "big.made", range(95))
    assert len(plan_jobs("x", [big], MADE, tmp_path, {})) == 10
    monkeypatch.setattr("lam.data.stream_plan.MAX_SHARDS", 4)
    jobs = plan_jobs("x", [big], MADE, tmp_path, {})
    assert [[(part.start, part.stop) for part in job.parts] for job in jobs] == [
        [(0, 20)], [(20, 40)], [(40, 60)], [(60, 80)], [(80, 95)],
    ]  # fmt: skip


def read_many(part):
    """Make structures without end of the part, one after the other."""
    for number in range(part.start, part.stop):
        yield _structure(number, part.path)


def test_memory_does_not_grow_with_the_source(tmp_path, monkeypatch):
    monkeypatch.setattr("lam.data.shard_writer.FLUSH_ATOMS", 300)
    peaks = {}
    for count in (200, 400, 4000):  # the first warms up
        job = Job("x", tmp_path / "x.h5", (Part(tmp_path / "x", 0, count),), read_many, {}, alone=True)
        tracemalloc.start()
        assert write_job(job, {}).structures == count
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # Ten times as many structures of 3 atoms, of which each holds 1 kB and more.
    assert peaks[4000] < peaks[400] + 200_000


KILLED = """
    import sys, time
    sys.path.insert(0, {tests!r})
    import test_stream
    from lam.data.convert import convert
    from dataclasses import replace

    def slowly(part):
        for item in test_stream.read_made(part):
            time.sleep(0.005)
            yield item

    if __name__ == "__main__":
        recipe = replace(test_stream.MADE, read=slowly)
        list(convert([{source!r}], {out!r}, recipe=recipe, jobs={jobs}))
        print("done")
"""


def test_a_killed_conversion_goes_on_without_losses_or_duplicates(tmp_path):
    source = _write_made(tmp_path / "a.made", range(200))
    out = tmp_path / "out"
    script = tmp_path / "slow.py"
    tests = str(Path(__file__).parent)
    script.write_text(textwrap.dedent(KILLED.format(tests=tests, source=str(source), out=str(out), jobs=2)))
    environment = os.environ | {"PYTHONPATH": str(Path(lam.__file__).parents[1]), "PYTHONWARNINGS": "ignore"}
    for wished in (2, 9):  # finished shards at which the process is killed
        process = subprocess.Popen([sys.executable, str(script)], env=environment)
        while process.poll() is None and len(list((out / "made").glob("part-*.h5"))) < wished:
            time.sleep(0.02)
        assert process.poll() is None, "it ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        with pytest.raises(LamError, match="not finished"):
            Shards(out / "made")
        assert not (out / "manifest.yaml").exists()
    finished = {path.name: path.stat().st_mtime_ns for path in (out / "made").glob("part-*.h5")}
    subprocess.run([sys.executable, str(script)], env=environment, check=True, timeout=300)
    assert _energies(out / "made") == [-10.0 - n for n in range(200)]
    names = [f"part-{n:05d}.h5" for n in range(20)]
    assert sorted(path.name for path in (out / "made").iterdir()) == ["index.h5", *names]
    assert not (out / "made" / UNFINISHED).exists() and len(finished) >= 9


def read_and_die(part):
    """A reader whose process is killed, as for want of memory."""
    yield _structure(1, part.path)
    if part.start == 10:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_a_sentence(source, tmp_path):
    from dataclasses import replace

    with pytest.raises(LamError, match=r"was killed.*run the same command again"):
        list(convert([source], tmp_path / "out", recipe=replace(MADE, read=read_and_die), jobs=2))


@pytest.fixture
def broken(tmp_path):
    words = [*range(12), "x12", *range(13, 28), "x28", 29]
    _write_made(tmp_path / "source" / "a.made", words)
    _write_made(tmp_path / "source" / "b.made", range(100, 105))
    return tmp_path / "source"


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_broken_frame_stops_by_default(broken, tmp_path, jobs):
    with pytest.raises(LamError, match=r"a\.made#x(12|28): broken.*--skip-broken"):
        list(convert([broken], tmp_path / "out", recipe=MADE, jobs=jobs))
    assert not (tmp_path / "out" / "manifest.yaml").exists()


@pytest.mark.parametrize("jobs", [1, 2])
def test_broken_frames_are_skipped_and_recorded(broken, tmp_path, jobs):
    out = tmp_path / "out"
    (result,) = convert([broken], out, recipe=MADE, jobs=jobs, skip_broken=2)
    assert result.structures == 33 and len(result.broken) == 2
    report = json.loads((out / "skipped.json").read_text())
    assert report == {
        "made": [{"source": str(broken / "a.made"), "reason": f"a.made#{name}: broken."} for name in ("x12", "x28")]
    }
    (again,) = convert([broken], out, recipe=MADE, jobs=jobs, skip_broken=2)
    assert again.skipped and again.broken == result.broken and json.loads((out / "skipped.json").read_text()) == report
    with pytest.raises(LamError, match="broken"):  # what was skipped once is not forgotten when nothing may be
        list(convert([broken], out, recipe=MADE, jobs=jobs))
    _write_made(broken / "a.made", range(30))
    list(convert([broken], out, recipe=MADE, jobs=jobs, skip_broken=2))
    assert not (out / "skipped.json").exists()


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_limit_holds_for_a_source_over_all_its_shards(broken, tmp_path, jobs):
    with pytest.raises(LamError, match=r"a\.made' has more than 1 broken frames"):
        list(convert([broken], tmp_path / "out", recipe=MADE, jobs=jobs, skip_broken=1))


def test_a_shard_of_broken_frames_only(tmp_path):
    source = _write_made(tmp_path / "a.made", [*range(10), *(f"x{n}" for n in range(10)), *range(20, 30)])
    (result,) = convert([source], tmp_path / "out", recipe=MADE, skip_broken=10)
    assert result.structures == 20 and _energies(result.path)[10] == -30.0 and len(Shards(result.path)) == 20
    assert Shards(result.path)[10].energy == -30.0
    _write_made(source, [f"x{n}" for n in range(25)])
    with pytest.raises(LamError, match=r"No structure of 'made' can be used: a\.made#x0"):
        list(convert([source], tmp_path / "none", recipe=MADE, skip_broken=100))
    _write_made(source, ["x1", "x2"])
    with pytest.raises(LamError, match="no structures that can be used"):
        list(convert([source], tmp_path / "none", recipe=MADE, skip_broken=100))


def test_a_reader_that_gives_up_is_an_error_in_any_case(tmp_path):
    source = _write_made(tmp_path / "a.made", [1, "stop", 2])
    with pytest.raises(LamError, match="ends here"):
        list(convert([source], tmp_path / "out", recipe=MADE, skip_broken=10))


def test_a_second_conversion_waits_its_turn(source, tmp_path):
    first = convert([source], tmp_path / "out", recipe=MADE)
    next(first)
    with pytest.raises(LamError, match="Another conversion is writing"):
        list(convert([source], tmp_path / "out", recipe=MADE))
    list(first)


def test_other_data_sets_and_edits_stay_in_the_manifest(source, tmp_path):
    out = tmp_path / "out"
    list(convert([source / "a.made"], out, recipe=MADE, name="one"))
    text = (out / "manifest.yaml").read_text().replace("name: one", "name: one\n  weight: 3.0\n  split: {test: 0.3}")
    (out / "manifest.yaml").write_text(text)
    list(convert([source / "b.made"], out, recipe=MADE, name="two"))
    list(convert([source / "a.made"], out, recipe=MADE, name="one"))
    specs = {spec.name: spec for spec in load_manifest(out).datasets}
    assert list(specs) == ["two", "one"] and (specs["one"].weight, specs["one"].split.test) == (3.0, 0.3)


def test_names_of_data_sets(source, tmp_path):
    from dataclasses import replace

    a_format = replace(MADE, doi="")
    assert [r.name for r in convert([source], tmp_path / "1", recipe=a_format)] == ["source"]
    names = [r.name for r in convert([source / "a.made", source / "b.made"], tmp_path / "2", recipe=a_format)]
    assert sorted(names) == ["a", "b"]
    (result,) = convert([source / "a.made", source / "b.made"], tmp_path / "3", recipe=a_format, name="both")
    assert (result.name, result.structures) == ("both", 47)
    with pytest.raises(LamError, match="holds nothing for the recipe 'made', which reads"):
        list(convert([tmp_path / "1"], tmp_path / "4", recipe=MADE))
    with pytest.raises(LamError, match=r"no recipe 'omat'\. Did you mean 'omat24'"):
        list(convert([source], tmp_path / "4", recipe="omat"))


def test_plain_xyz_is_cut_into_parts(tmp_path, molecule, monkeypatch):
    monkeypatch.setattr("lam.data.stream_xyz.SMALL_BYTES", 0)
    monkeypatch.setattr("lam.data.stream_xyz.PART_STRUCTURES", 7)
    monkeypatch.setattr("lam.data.stream_xyz.KNOWN_EVERY", 3)
    path = tmp_path / "m.extxyz"
    write(path, [molecule(seed, numbers=(6, 1, 8)[: 1 + seed % 3]).to_atoms() for seed in range(20)])
    parts = list(xyz_parts(path))
    assert [(part.start, part.stop) for part in parts] == [(0, 7), (7, 14), (14, 20)]
    whole = list(read_xyz_part(Part(path)))
    cut_up = [structure for part in reversed(parts) for structure in read_xyz_part(part)]
    assert sorted(s.source for s in cut_up) == sorted(s.source for s in whole)
    assert {s.source: s.energy for s in cut_up} == {s.source: s.energy for s in whole}
    (tmp_path / "m.extxyz.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert list(xyz_parts(tmp_path / "m.extxyz.gz")) == [Part(tmp_path / "m.extxyz.gz")]
    (result,) = convert([path], tmp_path / "out", jobs=2)
    assert result.shards == 3 and [s.source for s in open_shard(result.path)] == [s.source for s in whole]


def test_broken_frames_of_xyz_are_skipped(tmp_path, molecule):
    path = tmp_path / "m.extxyz"
    write(path, [molecule(seed).to_atoms() for seed in range(5)])
    lines = path.read_text().splitlines(keepends=True)
    lines[1] = lines[1].replace("energy=", "energy=nan old=")
    lines[12] = "H one two three\n"
    path.write_text("".join(lines))
    (result,) = convert([path], tmp_path / "out", skip_broken=2)
    assert result.structures == 3
    reasons = [entry["reason"] for entry in result.broken]
    assert "m.extxyz#0" in reasons[0] and "m.extxyz#2" in reasons[1]
    with pytest.raises(LamError, match="more than 1 broken"):
        list(convert([path], tmp_path / "other", skip_broken=1))
    path.write_text("".join(lines[:-1]))
    with pytest.raises(LamError, match="truncated"):
        list(convert([path], tmp_path / "cut", skip_broken=9))


@pytest.mark.parametrize("whole", [True, False])
def test_fingerprints_tell_files_apart(tmp_path, monkeypatch, whole):
    monkeypatch.setattr("lam.data.stream_plan._WHOLE_HASH", 1000)
    data = np.random.default_rng(0).bytes(2_000_000)
    contents = {"a": data, "b": data, "c": data + b"x", "d": data[:-1] + b"x", "e": b"x" + data[1:]}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    prints = {name: fingerprint(tmp_path / name, whole=whole) for name in contents}
    assert prints["a"] == prints["b"] and prints["a"].startswith("sampled:") and len(set(prints.values())) == 4
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    for folder, content in (("one", b"1"), ("two", b"2")):
        (tmp_path / folder / "file").write_bytes(content)
    assert fingerprint(tmp_path / "one") != fingerprint(tmp_path / "two")


def test_shards_of_today_are_still_one_file(tmp_path, molecule):
    write(tmp_path / "m.extxyz", [molecule(seed).to_atoms() for seed in range(4)])
    (result,) = convert([tmp_path / "m.extxyz"], tmp_path / "out")
    assert result.path == tmp_path / "out" / "m.h5" and len(Shard(result.path)) == 4
    assert (
        Shard(result.path).attributes["file"] == "m.extxyz" and len(Shard(result.path).attributes["file_sha256"]) == 64
    )
