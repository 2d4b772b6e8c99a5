"""What a model makes of atoms: the features of its last layer, and how they change when atoms move.

Features are measured by what the model's heads do with them: feature c counts as ``phi_c`` times the root mean square
of the weights that the heads give it, in eV. So distances and variances have a unit, need no statistics of the data,
and what no head looks at does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lam import keys
from lam.calculators import Predictor
from lam.data.graph import build_graph, collate
from lam.model.edges import make_edges

if TYPE_CHECKING:
    from lam.data.structure import Structure
    from lam.model.potential import Potential

STEP = 0.01
"""Displacement per coordinate, Angstrom, by which features are differentiated."""
Item = TypeVar("Item")


class Featurizer:
    """A model, ready to describe atoms.

    Args:
        model: name of a shipped model, path of a checkpoint, or a potential (which is not changed).
        head: through whose eyes (its gains and biases); by default without those of any head.
        device: as for :class:`~lam.calculators.Predictor`.

    Raises:
        LamError: unknown model, head or device; damaged checkpoint.
    """

    def __init__(self, model: str | Path | Potential, *, head: str | None = None, device: str = "auto") -> None:
        predictor = Predictor(model, head=head, device=device)
        self.model, self.device = predictor.model, predictor.device
        self.head = head
        self._task = 0 if head is None else self.model.head_index(head)
        readout = self.model.readout
        scale = self.model.energy_scale(readout.weight.dtype)[:, None]
        self._weights = (readout.weight * scale).square().mean(dim=0).sqrt()

    @property
    def width(self) -> int:
        """Number of features D."""
        return len(self._weights)

    @torch.no_grad()
    def atoms(self, structures: Sequence[Structure]) -> np.ndarray:
        """Return the features of all atoms of some structures, (A, D) float32, eV.

        Args:
            structures: at least one; all go through the model together.
        """
        return self._features(self._batch(structures)).cpu().numpy().astype(np.float32)

    @torch.no_grad()
    def responses(self, structures: Sequence[Structure], directions: Sequence[np.ndarray]) -> np.ndarray:
        """Return derivatives of the features of whole structures along displacements, (S, K, D) float32, eV/Angstrom.

        Args:
            structures: S of them.
            directions: for each structure, K displacements of all its atoms, (K, n, 3), of about 1 per coordinate.
        """
        batch = self._batch(structures)
        positions = batch[keys.POSITIONS]
        here = self._summed(batch)
        found = []
        for k in range(len(directions[0])):
            moves = torch.as_tensor(np.concatenate([each[k] for each in directions]))
            batch[keys.POSITIONS] = positions + STEP * moves.to(positions)
            found.append((self._summed(batch) - here) / STEP)
        return torch.stack(found, dim=1).cpu().numpy().astype(np.float32)

    def _batch(self, structures: Sequence[Structure]) -> dict[str, Tensor]:
        graphs = [build_graph(structure, cutoff=self.model.cutoff, task=self._task) for structure in structures]
        return {name: tensor.to(self.device) for name, tensor in collate(graphs).items()}

    def _features(self, batch: dict[str, Tensor]) -> Tensor:
        scalars = self.model.backbone(batch, make_edges(batch, self.model.dtype))
        readout = self.model.readout
        if self.head is None:
            hidden = readout.hidden(scalars)
        else:
            task = batch[keys.TASK][batch[keys.BATCH]]
            scalars = readout.film(scalars, task)
            hidden = readout.hidden_film(readout.hidden(scalars), task)
        return torch.cat([functional.silu(hidden), scalars], dim=-1) * self._weights

    def _summed(self, batch: dict[str, Tensor]) -> Tensor:
        # Differences of sums in double precision: the step is small.
        features = self._features(batch).to(torch.float64)
        return features.new_zeros(len(batch[keys.N_ATOMS]), self.width).index_add(0, batch[keys.BATCH], features)


def batches(items: Iterable[Item], size: int, weight: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Yield lists of items whose weights add up to at most ``size`` (or one heavier item)."""
    waiting: list[Item] = []
    load = 0
    for item in items:
        more = weight(item)
        if waiting and load + more > size:
            yield waiting
            waiting, load = [], 0
        waiting.append(item)
        load += more
    if waiting:
        yield waiting
