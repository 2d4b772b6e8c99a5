"""The benchmark of data measures what it says: what it makes is valid, and all of it is converted and read."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lmdb")
SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "data_throughput.py"


@pytest.fixture(scope="module")
def benchmark():
    """Return benchmarks/data_throughput.py as a module."""
    spec = importlib.util.spec_from_file_location("data_throughput", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_made_is_like_a_small_structure(benchmark):
    rows = list(benchmark.make_rows(200))
    sizes = [len(row["numbers"]) for row in rows]
    assert min(sizes) >= 16 and max(sizes) <= 24 and 19 < np.mean(sizes) < 21
    assert sum(all(row["pbc"]) for row in rows) == 100


def test_all_is_converted_tiled_and_read(benchmark, tmp_path):
    from lam.data.shards import open_shard

    benchmark.write_source(tmp_path / "made.aselmdb", 200)
    result = benchmark.converted(tmp_path / "made.aselmdb", tmp_path / "out", 1)
    assert (result["structures"], result["shards"]) == (200, 1) and result["cpu_us"] > 0
    shard = tmp_path / "out" / "made.h5"
    assert result["shard_bytes"] == pytest.approx(shard.stat().st_size / 200)
    size = benchmark.tile(shard, tmp_path / "tiled", 2.5 * shard.stat().st_size / 2**30)
    assert size == 3 * shard.stat().st_size and len(open_shard(tmp_path / "tiled")) == 600
    benchmark.evict(tmp_path / "tiled")
    found = benchmark.read(tmp_path / "tiled", 0.2, [0])
    assert found["structures"] == 600 and found["structures_per_second"] > 0 and found["graphs_per_second"]["0"] > 0
