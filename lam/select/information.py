"""Uncertainty of forces under a Gaussian last layer, and what labels of a structure would take of it.

The energy is linear in the features of the last layer, ``E = w . phi(x)``. The prior of w is Gaussian, each weight as
wide as the model's heads make use of it (see :mod:`lam.select.features`). Then the force along a displacement u,
``-w . d phi/du``, has a variance that depends on which structures are labelled, but not on their labels (Bishop,
Pattern Recognition and Machine Learning, 3.3; of potentials: Bigi et al. 2024, last-layer prediction rigidity). A
structure is worth the information that its forces along some random displacements would give:
``1/2 log det(1 + J C J^T)``, with their features J and the posterior covariance C. So one that resembles what was taken
is worth little, however uncertain it was (batch-mode greedy design, D-optimal).
"""

from __future__ import annotations

import numpy as np

PRIOR = 100.0
"""Variance of a typical force under the prior, over that of the noise."""


class Information:
    """What structures are worth: information of their forces about the last layer, in nats.

    Args:
        features: (N, K, D) float32: for each structure, derivatives of the features along K displacements.
        scale: of a feature: a typical row has norm ``scale`` (by default, the rms over all rows).
    """

    def __init__(self, features: np.ndarray, scale: float | None = None) -> None:
        self._features = features
        width = features.shape[2]
        norm = rms_norm(features) if scale is None else scale
        self._covariance = np.eye(width) * (PRIOR / max(norm, 1e-30) ** 2)

    def __len__(self) -> int:
        return len(self._features)

    def gains(self, rows: np.ndarray) -> np.ndarray:
        """Return what each of ``rows`` is worth now, nats, (R,) float64."""
        own = self._features[rows].astype(np.float64)
        gram = np.einsum("rkd,rld->rkl", own @ self._covariance, own)
        return 0.5 * np.linalg.slogdet(gram + np.eye(own.shape[1]))[1]

    def take(self, row: int) -> None:
        """Take a structure: condition on its forces."""
        self.add(self._features[row])

    def add(self, features: np.ndarray) -> None:
        """Condition on forces with these features, (K, D), of a structure that need not be in the pool."""
        own = features.astype(np.float64)
        reach = own @ self._covariance
        noise = reach @ own.T + np.eye(len(own))
        covariance = self._covariance - reach.T @ np.linalg.solve(noise, reach)
        self._covariance = 0.5 * (covariance + covariance.T)


def rms_norm(features: np.ndarray) -> float:
    """Return the root mean square norm of the rows, (..., D)."""
    return float(np.sqrt(np.einsum("...d,...d->...", features, features, dtype=np.float64).mean()))
