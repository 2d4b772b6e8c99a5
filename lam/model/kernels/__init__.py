"""The messages of the backbone: one interface, fused kernels where there are some, plain PyTorch anywhere.

:func:`messages` chooses; :func:`use` forces, and so does the environment variable ``LAM_KERNELS``.
"""

from lam.model.kernels.choice import BACKENDS, backend_for, couples, messages, use
from lam.model.kernels.ops import couple, gradients_of

__all__ = ["BACKENDS", "backend_for", "couple", "couples", "gradients_of", "messages", "use"]
