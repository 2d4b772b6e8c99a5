"""The benchmark scripts: what they count, the structures they build, the tables they print, and a run of lam alone."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.neighborlist import neighbor_list
from torch.utils.flop_counter import FlopCounterMode

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from harness import counts, environments, report, structures, turns  # noqa: E402

from lam.model import presets  # noqa: E402
from lam.model.config import ModelConfig  # noqa: E402


def script(name):
    """Return a script as a module."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- structures ----------------------------------------------------------------------------------


def test_water_has_the_density_and_the_molecules_of_water():
    box = structures.water_box()
    assert len(box) == 192 and box.get_chemical_formula() == "H128O64"
    assert box.get_masses().sum() * 1.66053907 / box.get_volume() == pytest.approx(1.0, abs=1e-4)
    bonds = neighbor_list("i", box, 1.1)
    assert np.bincount(bonds, minlength=192).tolist() == [2, 1, 1] * 64
    i, j, distances = neighbor_list("ijd", box, 1.75)
    assert (i // 3 == j // 3).all(), f"molecules overlap: {distances[i // 3 != j // 3].min()}"


@pytest.mark.parametrize(("wanted", "made"), [(192, 192), (1536, 1536), (12288, 12288), (400, 384), (2400, 2304)])
def test_boxes_are_repeated_to_about_the_size_wanted(wanted, made):
    atoms = structures.repeated_water(wanted)
    assert len(atoms) == made
    assert atoms.get_volume() / made == pytest.approx(structures.water_box().get_volume() / 192)


def test_a_million_atoms_are_a_cube_as_far_as_possible():
    copies = structures.copies_along_axes(round(1e6 / 192))
    assert max(copies) - min(copies) <= 1 and 192 * np.prod(copies) == pytest.approx(1e6, rel=0.02)


@pytest.mark.parametrize("name", structures.SYSTEMS)
def test_structures_are_what_the_page_says(name):
    atoms = structures.SYSTEMS[name]()
    expected = {"water": (192, True), "copper": (256, True), "rutile": (216, True), "octane": (26, False)}[name]
    assert (len(atoms), bool(atoms.pbc.all())) == expected
    assert np.array_equal(atoms.positions, structures.SYSTEMS[name]().positions)
    if name == "octane":
        assert atoms.get_chemical_formula() == "C8H18"
        assert 1.3 < neighbor_list("d", atoms[atoms.numbers == 6], 2.0).max() < 1.8
    if name == "rutile":
        assert atoms.get_chemical_formula() == "O144Ti72"
        titanium = np.bincount(neighbor_list("i", atoms, 2.4), minlength=216)[atoms.numbers == 22]
        assert titanium.min() >= 5 and titanium.max() <= 7


@pytest.mark.parametrize("name", structures.SYSTEMS)
def test_every_atom_moves_at_every_step_but_nothing_collides(name):
    atoms = structures.SYSTEMS[name]()
    start, cell = atoms.positions.copy(), atoms.cell.array
    path = np.stack([structures.moved(start, cell, step) for step in range(121)])
    steps = np.linalg.norm(np.diff(path, axis=0), axis=2)
    assert steps.min() > 1e-4 and steps.max() < 0.1
    drift = np.linalg.norm(path - path[0], axis=2).max(axis=1)
    assert 8 <= np.argmax(drift > 0.25) <= 16, "a list with a skin would be renewed too rarely or too often"
    closest = neighbor_list("d", atoms, 3.0).min()
    for step in (30, 60, 90):
        atoms.positions = path[step]
        assert neighbor_list("d", atoms, 3.0).min() > 0.8 * closest


# -- counts --------------------------------------------------------------------------------------


def test_a_message_is_counted_as_the_equations_say():
    config = ModelConfig(l_max=3, sender_channels=16, radial_functions=8)
    one, two = (counts.message(config, k, first=True).energy.flop for k in (10.0, 20.0))
    assert two == 2 * one  # all work is at the edges
    outer = 2 * 16 * 16 * 8
    assert outer < one / 10 < 1.2 * outer
    forces = counts.message(config, 10.0, first=True).forces.flop
    assert 2.9 < forces / one < 3.3


def test_later_layers_need_more_per_edge_and_less_without_tensors():
    config = presets.preset("small")
    narrow = config.model_copy(update={"tensor_channels": 4})
    first, later = (counts.message(config, 50.0, first=is_first).energy for is_first in (True, False))
    assert later.flop > first.flop and later.bytes > first.bytes
    assert counts.message(narrow, 50.0, first=False).energy.flop < later.flop


@pytest.mark.parametrize("name", presets.PRESETS)
def test_matrix_products_at_the_atoms_are_counted_right(name):
    """Against PyTorch's own count of the products that a forward pass with fused messages does."""
    kernels = pytest.importorskip("lam.model.kernels")
    pytest.importorskip("numba")
    potential, batch = tiny_batch(name)
    with kernels.use("numba"), FlopCounterMode(display=False) as counter:
        potential(batch, forces=False, stress=False)
    config = potential.config
    # PyTorch counts matrix products only: not the coupling, nor what is done number by number (a few per cent);
    # and the contraction with a matrix does some multiplications by zero.
    coupling = config.n_layers * config.channels * counts.coupling(config.l_max)
    mine = sum(stages.energy.flop for stages in counts.needed(config, 0.0).values()) - coupling
    assert len(batch["atomic_numbers"]) * mine == pytest.approx(counter.get_total_flops(), rel=0.06)


@pytest.mark.parametrize("name", presets.PRESETS)
def test_fixed_weights_need_a_sum_for_each_element_only(name):
    config = presets.preset(name)
    equations, two, many = (counts.needed(config, 50.0, elements) for elements in (None, 2, 100))
    first, narrow = (counts.message(config, 50.0, first=True, elements=n).forces.flop for n in (None, 2))
    assert equations["messages"].forces.flop - two["messages"].forces.flop == pytest.approx(first - narrow)
    assert first > 4 * narrow
    assert two["node products"].forces.flop < many["node products"].forces.flop
    assert many["node products"].forces.flop < equations["node products"].forces.flop
    assert many["messages"] == equations["messages"] and two["readout"] == equations["readout"]


def test_coupling_is_counted_by_its_coefficients():
    # l <= 1 by hand: x0 y0, x_m y_m (3), x0 y_m + x_m y0 (3) are formed; 1 + 3 + 3 coefficients take two each.
    assert counts.coupling(1) == 2 * 7 + 4 + 3 * 3
    assert counts.coupling(1) < counts.coupling(2) < counts.coupling(3) < 2 * 3 * 38 * 16


def tiny_batch(name):
    """Return a potential and a batch of one structure."""
    from peer_workers.lam_worker import make_potential

    from lam.data.graph import build_graph, collate
    from lam.data.structure import Structure

    potential = make_potential(name, 3.0)
    atoms = structures.octane()
    structure = Structure(numbers=atoms.numbers, positions=atoms.positions, cell=np.zeros((3, 3)), pbc=atoms.pbc)
    return potential, collate([build_graph(structure, cutoff=3.0)])


def test_stages_grow_and_bytes_bound_what_flop_do_not():
    stages = counts.total(presets.preset("base"), 60.0)
    assert stages.energy.flop < stages.forces.flop < stages.training.flop
    work = stages.forces
    assert work.seconds(1e30, 1e9) == pytest.approx(work.bytes / 1e9)
    assert work.seconds(1e9, 1e30) == pytest.approx(work.flop / 1e9)


# -- turns and tables ----------------------------------------------------------------------------


def test_turns_alternate_and_average_over_their_calls():
    order = []

    def contestant(name, wall):
        def call():
            order.append(name)
            return {"wall": wall, "cpu": 2 * wall}

        return call

    timings = turns.take_turns({"slow": contestant("slow", 1.0), "fast": contestant("fast", 0.25)}, 2, 0.5, str)
    assert order == ["slow", "fast", "fast"] * 2
    assert timings["fast"].seconds == 0.25 and timings["fast"].cpu_seconds == 0.5 and timings["fast"].calls == 4


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.4, "1,234"),
        (12.345, "12.3"),
        (0.012345, "0.0123"),
        (-5.678, "-5.68"),
        (0, "0"),
        (None, "-"),
        (float("nan"), "nan"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert report.number(value) == text


def test_tables_line_up_and_paste():
    header, rows = ["", "water"], [["MACE", "1,194"], ["lam small", "9"]]
    lines = report.text_table(header, rows).splitlines()
    assert len({len(line) for line in lines}) == 1 and lines[2] == "lam small      9"
    assert report.markdown_table(header, rows).splitlines()[1:3] == ["| --- | ---: |", "| MACE | 1,194 |"]


def test_ratios_are_of_the_peer_to_lam():
    peers = script("peers")
    small = {"water": {"seconds": 0.02}, "octane": {"seconds": 1.0}}
    results = {"MACE": {"water": {"seconds": 1.0}}, "lam small": small}
    assert peers.ratio_rows(results, ["water", "octane"]) == [["lam small : MACE", "50.0", "-"]]


def test_training_takes_each_codes_best_batch():
    training = script("peers_training")
    rows = [
        {"name": name, "structures": size, "threads": 1, "atoms_per_cpu_second": rate}
        for name, size, rate in [("MACE", 1, 30.0), ("MACE", 4, 40.0), ("lam small", 4, 2e3), ("lam small", 16, 1e3)]
    ]
    header, lines = training.table(rows, 1, "atoms_per_cpu_second")
    assert header[-1] == "times MACE"
    assert [line[1:] for line in lines] == [["4", "40.0", "1.00"], ["4", "2,000", "50.0"]]


def test_pytorch_comes_first_and_alone_so_that_no_cuda_is_taken(tmp_path):
    first, second = environments.install_commands("mace", tmp_path, environments.CPU_INDEX)
    assert first[-3:] == ["torch==2.13.0", "--index-url", environments.CPU_INDEX]
    assert "torch==2.13.0" in second and "mace-torch==0.3.16" in second


# -- runs ----------------------------------------------------------------------------------------


def run(name, *options, out):
    """Run a script and return its results."""
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *options, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=BENCHMARKS.parent)
    assert done.returncode == 0, done.stderr
    return json.loads((out / f"{name}.json").read_text())


def test_peers_runs_with_lam_alone(tmp_path):
    options = ["--systems", "octane", "--presets", "nano", "--rounds", "1", "--turn", "0", "--threads", "1"]
    results = run("peers", *options, out=tmp_path)
    row = results["results"]["lam nano"]["octane"]
    assert row["dtype"] == "float32" and row["cutoff"] == 6.0 and row["calls"] == 1 and row["seconds"] > 0
    assert (tmp_path / "peers.png").stat().st_size > 1000
    page = (tmp_path / "peers.md").read_text()
    assert page.startswith("    python benchmarks/peers.py --systems octane") and "| lam nano |" in page


def test_growth_measures_in_fresh_processes(tmp_path):
    options = ["--presets", "nano", "--sizes", "384", "--repeats", "1", "--threads", "1", "--cutoff", "3"]
    row = run("growth", *options, out=tmp_path)["results"][0]
    assert row["atoms"] == 384 and row["cutoff"] == 3.0
    assert row["peak_bytes"] > 5e7 and row["seconds_per_atom"] > 0 and row["reference_seconds_per_atom"] > 0


def test_a_size_that_fails_is_a_row_not_a_crash():
    growth = script("growth")
    rows = growth.rows_of([{"preset": "base", "atoms": 10**6, "error": "status -9: killed"}])
    assert rows == [["base", "1,000,000", "failed", "-", "-", "-"]]


def test_a_worker_says_what_went_wrong(tmp_path):
    with turns.Worker("lam", sys.executable, 1, tmp_path / "log") as worker:
        with pytest.raises(turns.WorkerError, match="huge"):
            worker.ask("load", key="x", system="octane", model="huge")
        answer = worker.ask("load", key="x", system="octane", model="nano", cutoff=3.0)
        assert answer["computed"] == ["energy", "forces"]


def test_codes_that_cannot_be_started_are_left_out(tmp_path, capsys):
    pythons = {"lam": sys.executable, "mace": sys.executable, "nequip": str(tmp_path / "python")}
    workers = turns.start_workers(list(pythons), pythons, 1, tmp_path)
    with workers.pop("lam"):
        assert not workers
    said = capsys.readouterr().err
    assert "mace: left out: mace failed to start" in said and "nequip: left out" in said
    with pytest.raises(turns.WorkerError, match="no code"):
        turns.start_workers(["nequip"], pythons, 1, tmp_path)


@pytest.mark.parametrize(("skin", "searches"), [(0.0, 6), (None, 1)])
def test_lists_without_a_skin_are_searched_at_each_call(skin, searches):
    from peer_workers.lam_worker import calculator

    atoms = structures.octane()
    start = atoms.positions.copy()
    atoms.calc = calculator("nano", 3.0, skin)[0]
    for step in range(6):
        atoms.positions = structures.moved(start, atoms.cell.array, step)
        atoms.get_forces()
    assert atoms.calc._predictor._fast.verlet.rebuilds == searches


def test_a_drift_is_found_in_its_noise():
    nve = script("nve")
    times = np.linspace(0.0, 10.0, 101)
    energies = -3.0 + 2e-6 * times + 1e-7 * np.sin(40 * times)
    found = nve.summary({"time_ps": times, "energy_ev_per_atom": energies, "temperature_k": 300 + 0 * times})
    assert found["drift_mev_per_atom_and_ps"] == pytest.approx(2e-3, rel=0.01)
    assert found["scatter_mev_per_atom"] == pytest.approx(7e-5, rel=0.05) and found["mean_temperature_k"] == 300


@pytest.mark.parametrize("name", ["peers", "peers_training", "growth", "roofline"])
def test_every_option_is_explained(name):
    parser = script(name).build_parser()
    assert all(action.help for action in parser._actions)


def test_the_page_takes_what_was_measured_and_keeps_the_rest(tmp_path):
    page = script("performance_page")
    results, plots = tmp_path / "results", tmp_path / "plots"
    results.mkdir()
    found = {"machine": {"processor": "P", "cores": 2, "instructions": "AVX512", "torch": "2", "load_at_start": 0.5}}
    found["codes"] = {"mace": {"mace-torch": "1.2", "torch": "2"}}
    report.save(results, "peers", found, [("Times", ["", "water"], [["MACE", "1"]])])
    (results / "peers.png").write_bytes(b"plot")
    start = "a\n<!-- peers:begin -->\nold\n<!-- peers:end -->\nb\n<!-- growth:begin -->\nkept\n<!-- growth:end -->\n"
    text, filled = page.fill(start, results, plots)
    assert filled == ["peers"] and "old" not in text and "kept" in text and text.startswith("a\n")
    assert "| MACE | 1 |" in text and "mace-torch 1.2; load of the machine at the start 0.5." in text
    assert "(plots/peers.png)" in text and (plots / "peers.png").read_bytes() == b"plot"
    assert page.fill(text, results, plots)[0] == text
