"""The training data set and its batches: right items, exact resume, the same batches on 1 and 2 ranks."""

from collections import Counter
from itertools import chain, islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lam import keys
from lam.data.balance import imbalance, share
from lam.data.dataset import MultiTaskDataset, one_thread
from lam.data.graph import collate
from lam.data.mixture import MixturePlan, Stage
from lam.data.sampler import BudgetBatchSampler, SequentialBudgetSampler
from lam.data.splits import SplitSpec
from lam.errors import LamError


@pytest.fixture
def data(manifest):
    return MultiTaskDataset(manifest, "train", 4.0)


def _sampler(data, **options):
    return BudgetBatchSampler(data, **({"max_atoms": 40, "max_edges": 2000, "total_steps": 50} | options))


def test_splits_are_disjoint_and_complete(manifest):
    seen = []
    for split in ("train", "val", "test"):
        part = MultiTaskDataset(manifest, split, 4.0)
        seen += [part.locate(item) for item in range(len(part))]
    assert len(seen) == len(set(seen)) == len(MultiTaskDataset(manifest, "all", 4.0)) == 83


def test_items_carry_their_head_and_row(data, manifest):
    item = int(data.items_of(1)[2])
    dataset, row = data.locate(item)
    graph = data[item]
    assert dataset == 1 and graph[keys.TASK].item() == 1 and graph[keys.STRUCTURE_ID].item() == row
    assert graph[keys.LABEL_ENERGY].item() == data.shards[1][row].energy
    assert torch.equal(data[1, row][keys.POSITIONS], graph[keys.POSITIONS])
    assert data.name_of(1, row) == f"molecules: molecules.extxyz#{row} (row {row})"
    other = MultiTaskDataset(manifest, "train", 4.0, heads=["x", "molecules", "y", "crystals"])
    assert other[int(other.items_of(0)[0])][keys.TASK].item() == 3


def test_sizes_are_known_without_reading_graphs(data):
    graphs = [data[item] for item in range(len(data))]
    assert [graph[keys.N_ATOMS].item() for graph in graphs] == data.n_atoms.tolist()
    assert [graph[keys.EDGE_INDEX].shape[1] for graph in graphs] == data.n_edges.tolist()


def test_unknown_names(manifest):
    with pytest.raises(LamError, match="split 'trian'"):
        MultiTaskDataset(manifest, "trian", 4.0)
    with pytest.raises(LamError, match="head 'molecules'"):
        MultiTaskDataset(manifest, "train", 4.0, heads=["crystals"])


def test_the_same_seed_gives_the_same_batches(data):
    assert list(_sampler(data, seed=3)) == list(_sampler(data, seed=3))
    assert list(_sampler(data, seed=3)) != list(_sampler(data, seed=4))


@pytest.mark.parametrize("piece", [16384, 64])
def test_resuming_continues_exactly(data, monkeypatch, piece):
    monkeypatch.setattr("lam.data.mixture.PIECE", piece)
    whole = list(_sampler(data, total_steps=60))
    assert len(whole) == len(_sampler(data, total_steps=60)) == 60
    for start in (0, 1, 17, 59, 60):
        resumed = _sampler(data, total_steps=60, start=start)
        assert list(resumed) == whole[start:] and len(resumed) == 60 - start


@pytest.mark.parametrize("piece", [16384, 64])
def test_resuming_with_other_batches_loses_and_repeats_nothing(data, monkeypatch, piece):
    monkeypatch.setattr("lam.data.mixture.PIECE", piece)
    whole = list(chain.from_iterable(_sampler(data, total_steps=200)))
    before = _sampler(data, total_steps=60)
    begun = list(chain.from_iterable(islice(before, 17)))
    position = before.position(17)
    assert position == (17, len(begun)) and begun == whole[: len(begun)]
    ranks = [
        _sampler(data, total_steps=40, plan=before.plan, start=position, rank=rank, world_size=3, max_atoms=20)
        for rank in range(3)
    ]
    steps = [sorted(chain.from_iterable(parts)) for parts in zip(*ranks, strict=True)]
    assert len(steps) == 23
    rest = list(chain.from_iterable(ranks[0].global_batches(position)))
    assert sorted(chain.from_iterable(steps)) == sorted(rest)
    assert rest == whole[len(begun) : len(begun) + len(rest)]
    counts = before.seen(len(begun))
    assert counts.sum() == len(begun) and counts.tolist() == np.bincount(begun, minlength=len(data)).tolist()


def test_stages_change_the_mixture(data, monkeypatch):
    monkeypatch.setattr("lam.data.mixture.PIECE", 64)
    stages = [Stage(0.5, np.array([1.0, 0.0])), Stage(1.0, np.array([1.0, 1.0]))]
    sampler = _sampler(data, total_steps=200, stages=stages)
    batches = [[data.locate(item)[0] for item in batch] for batch in sampler]
    first, last = list(chain.from_iterable(batches[:80])), list(chain.from_iterable(batches[120:]))
    assert not any(first) and 0.1 < np.mean(last) < 0.9
    again = MixturePlan.from_state(sampler.plan.state())
    assert list(_sampler(data, total_steps=200, plan=again)) == list(sampler)
    items = [item for batch in sampler for item in batch]
    crystals = [item for item in items if data.locate(item)[0] == 0]
    for begin in range(0, len(crystals) - data.sizes[0], int(data.sizes[0])):
        assert set(crystals[begin : begin + data.sizes[0]]) == set(data.items_of(0).tolist())


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([Stage(0.5, np.ones(2)), Stage(0.5, np.ones(2))], "must rise from above 0 to 1"),
        ([Stage(0.5, np.ones(2))], "must rise from above 0 to 1"),
        ([Stage(0.5, np.zeros(2)), Stage(1.0, np.ones(2))], "every data set the weight 0"),
    ],
)
def test_stages_that_cannot_be(data, stages, message):
    with pytest.raises(LamError, match=message):
        _sampler(data, stages=stages)


def test_a_longer_training_begins_like_a_shorter_one(data):
    assert list(islice(_sampler(data, total_steps=500), 50)) == list(_sampler(data, total_steps=50))


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_share_the_batches_of_one_process(data, ranks):
    one = list(_sampler(data, max_atoms=60, max_edges=3000, min_structures=3))
    shares = [
        list(
            _sampler(
                data, max_atoms=60 // ranks, max_edges=3000 // ranks, min_structures=3, rank=rank, world_size=ranks
            )
        )
        for rank in range(ranks)
    ]
    for step, batch in enumerate(one):
        parts = [shares[rank][step] for rank in range(ranks)]
        assert all(parts)
        assert sorted(chain.from_iterable(parts)) == sorted(batch)


def test_budgets_are_kept_except_for_giants(data):
    for batch in _sampler(data, max_atoms=30, max_edges=600, total_steps=200):
        fits = data.n_atoms[batch].sum() <= 30 and data.n_edges[batch].sum() <= 600
        assert fits or len(batch) == 2


def test_giants_are_not_dropped(data):
    seen = {item for batch in _sampler(data, max_atoms=1, max_edges=1, total_steps=400) for item in batch}
    assert seen == set(range(len(data)))


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
def test_every_structure_is_seen_once_before_any_is_seen_twice(data, monkeypatch, temperature):
    monkeypatch.setattr("lam.data.mixture.PIECE", 64)
    orders = [[], []]
    for batch in _sampler(data, total_steps=120, temperature=temperature):
        for item in batch:
            orders[data.locate(item)[0]].append(item)
    for dataset, order in enumerate(orders):
        size = data.sizes[dataset]
        assert len(order) > 2 * size
        for begin in range(0, len(order) - size, size):
            assert set(order[begin : begin + size]) == set(data.items_of(dataset).tolist())


def _drawn(data, sampler):
    return Counter(data.locate(item)[0] for batch in sampler for item in batch)


@pytest.mark.parametrize(("temperature", "weights"), [(1.0, None), (0.0, None), (0.5, None), (0.5, [1.0, 3.0])])
def test_shares_follow_temperature_and_weight(data, temperature, weights):
    sampler = _sampler(data, total_steps=600, temperature=temperature, weights=weights)
    counts = _drawn(data, sampler)
    wished = np.array(weights or [1.0, 1.0]) * data.sizes**temperature
    assert counts[1] / counts.total() == pytest.approx(wished[1] / wished.sum(), abs=0.03)


def test_repeats_are_limited(data):
    options = {"total_steps": 300, "temperature": 0.0}
    free, limited = _sampler(data, **options), _sampler(data, **options, max_repeats=40.0)
    assert free.repeats()[1] > 60
    passes = _drawn(data, limited)[1] / data.sizes[1]
    assert 30 < passes < 48
    everything = _sampler(data, **options, max_repeats=1.0)  # cannot be kept: all equally often, then
    np.testing.assert_allclose(everything.repeats()[0], everything.repeats()[1])


def test_shares_are_balanced():
    rng = np.random.default_rng(0)
    costs = rng.integers(1, 1000, size=40)
    parts = share(np.arange(40), costs, 4)
    loads = [costs[part].sum() for part in parts]
    assert sorted(chain.from_iterable(parts)) == list(range(40))
    assert max(loads) - min(loads) < 100
    assert all(share(np.arange(3), np.zeros(3), 3))


@pytest.mark.parametrize("ranks", [2, 4, 16])
def test_the_slowest_rank_has_little_more_work_than_the_mean(ranks):
    rng = np.random.default_rng(1)
    costs = np.round(rng.lognormal(5.0, 1.2, size=24 * ranks))
    costs = np.minimum(costs, costs.sum() / ranks)
    loads = np.array([costs[part].sum() for part in share(np.arange(len(costs)), costs, ranks)])
    assert imbalance(loads) < 1.02


def test_a_structure_that_cannot_be_divided_ends_the_balancing():
    parts = share(np.arange(5), np.array([1000.0, 1, 1, 1, 1]), 2)
    assert sorted(map(len, parts)) == [1, 4]


def test_sequential_batches_hold_everything_once(data):
    batches = list(SequentialBudgetSampler(data, 30, 600))
    flat = list(chain.from_iterable(batches))
    assert sorted(flat) == list(range(len(data)))
    assert all(data.n_atoms[batch].sum() <= 30 or len(batch) == 1 for batch in batches)
    ranks = [list(SequentialBudgetSampler(data, 30, 600, rank=rank, world_size=2)) for rank in range(2)]
    assert sorted(chain.from_iterable(ranks[0] + ranks[1])) == list(range(len(data)))
    few = list(chain.from_iterable(SequentialBudgetSampler(data, 30, 600, max_per_dataset=4)))
    assert Counter(data.locate(item)[0] for item in few) == {0: 4, 1: 4}


def test_an_empty_split_or_budget_is_an_error(manifest, data):
    with pytest.raises(LamError, match="at least one atom"):
        _sampler(data, max_atoms=0)
    specs = [spec.model_copy(update={"split": SplitSpec(test=0, val=0)}) for spec in manifest.datasets]
    nothing = MultiTaskDataset(manifest.model_copy(update={"datasets": specs}), "val", 4.0)
    with pytest.raises(LamError, match="no structure to train on"):
        _sampler(nothing)


@pytest.mark.parametrize("method", [None, "fork", "spawn"])
def test_loader_workers_give_the_same_batches(data, method):
    sampler = _sampler(data, total_steps=6)
    workers = (
        {} if method is None else {"num_workers": 2, "multiprocessing_context": method, "worker_init_fn": one_thread}
    )
    loader = DataLoader(data, batch_sampler=sampler, collate_fn=collate, **workers)
    for items, batch in zip(sampler, loader, strict=True):
        rows = [data.locate(item)[1] for item in items]
        assert batch[keys.STRUCTURE_ID].tolist() == rows
        assert torch.equal(batch[keys.POSITIONS], collate([data[item] for item in items])[keys.POSITIONS])


def test_a_damaged_structure_is_named_through_a_worker(data, manifest):
    import h5py

    _, row = data.locate(0)
    data.shards[0].close()
    with h5py.File(manifest.datasets[0].path, "a") as file:
        file["structures/energy"][row] = np.nan
    loader = DataLoader(data, batch_size=1, collate_fn=collate, num_workers=1, multiprocessing_context="spawn")
    with pytest.raises(LamError, match=rf"crystals\.extxyz#{row}"):
        next(iter(loader))
