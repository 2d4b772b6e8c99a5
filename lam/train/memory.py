"""Keeping freed memory for the next step instead of giving it back to the system."""

from __future__ import annotations

import ctypes
import platform

# glibc's malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST_MMAP_THRESHOLD = 32 << 20


def keep_freed_memory() -> bool:
    """Let glibc reuse freed blocks of a few MB; return whether it could be asked to.

    By default each such tensor is mapped and unmapped anew, and every page of it is a page fault: some
    tenth of the time of a training step on a CPU. Other C libraries are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {_MMAP_THRESHOLD: _LARGEST_MMAP_THRESHOLD, _TRIM_THRESHOLD: 1 << 30, _TOP_PAD: 64 << 20}
    return all(mallopt(name, value) == 1 for name, value in settings.items())
