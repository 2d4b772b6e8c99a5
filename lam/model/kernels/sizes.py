"""Sizes that all fused kernels share; needs none of the packages that compile them."""

MAX_RADIAL = 16
"""Most radial functions of a fused kernel; with more, plain PyTorch computes the messages."""
