"""Where the commands print their tables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 160
"""Columns where the output is no terminal: files and pipes do not wrap, and 80 would fold every name."""


def make_console(**options: Any) -> Console:
    """Return a console as wide as the terminal, or :data:`PIPE_WIDTH` (or ``COLUMNS``) without one."""
    from rich.console import Console

    console = Console(**options)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPE_WIDTH
    return console
