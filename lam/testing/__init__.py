"""The physics test suite that every model of ours passes, for other people's models too.

``PotentialPhysicsTests`` is a class to inherit in a pytest file; the ``check_*`` functions of
:mod:`lam.testing.physics` are the single checks; ``tiny_potential`` is a model for tests of anything else.
"""

from lam.testing.evaluation import Evaluate, Result, evaluator
from lam.testing.models import tiny_heads, tiny_potential
from lam.testing.structures import sample_structures
from lam.testing.suite import PotentialPhysicsTests

__all__ = [
    "Evaluate",
    "PotentialPhysicsTests",
    "Result",
    "evaluator",
    "sample_structures",
    "tiny_heads",
    "tiny_potential",
]
