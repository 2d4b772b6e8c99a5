"""Random inputs of the message operator."""

from __future__ import annotations

import torch
from torch import Tensor

CUTOFF = 5.0


def random_message(
    *,
    counts: list[int],
    l_max: int = 3,
    n_radial: int = 8,
    senders: int = 16,
    tensors: int = 0,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> dict[str, Tensor | float | int]:
    """Return the operator's arguments for centres with ``counts`` neighbours at all distances up to the cutoff."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64).to(dtype)

    n_atoms, n_edges = len(counts), sum(counts)
    distances = 0.2 + (CUTOFF + 0.3 - 0.2) * torch.rand(n_edges, 1, generator=random, dtype=torch.float64)
    vectors = torch.nn.functional.normalize(normal(n_edges, 3).double(), dim=1) * distances
    starts = torch.tensor([0, *torch.tensor(counts).cumsum(0).tolist()])
    return {
        "vectors": vectors.to(dtype),
        "q": normal(n_atoms, senders),
        "T": normal(n_atoms, 8 * senders if tensors else 0),
        "t": normal(n_atoms, 8 * tensors),
        "starts": starts,
        "neighbors": torch.randint(n_atoms, (n_edges,), generator=random),
        "radii": 0.4 + torch.rand(n_atoms, generator=random, dtype=torch.float64).to(dtype),
        "scale": 0.5 + torch.rand(n_radial, generator=random, dtype=torch.float64).to(dtype),
        "cutoff": CUTOFF,
        "l_max": l_max,
    }


def random_like(tensors: tuple[Tensor, ...], seed: int = 1) -> tuple[Tensor, ...]:
    """Return normal random numbers in the shapes and precision of ``tensors``."""
    random = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(t.shape, generator=random, dtype=torch.float64).to(t.dtype).to(t.device) for t in tensors)
