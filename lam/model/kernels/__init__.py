"""The messages of the backbone: one interface, fused kernels where there are some, plain PyTorch anywhere.

:func:`messages` chooses; :func:`use` forces, and so does the environment variable ``LAM_KERNELS``.
"""

from lam.model.kernels.choice import BACKENDS, backend_for, fuses_nodes, messages, use
from lam.model.kernels.ops import gradients_of

__all__ = ["BACKENDS", "backend_for", "fuses_nodes", "gradients_of", "messages", "use"]
