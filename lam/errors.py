"""The one exception a user is meant to read.

Everything that a person can put right (a file, a label, a name, an option) is raised as
:class:`LamError`, whose message is one sentence or two: what is wrong, where, and what to do.
The command line prints it without a traceback and exits with status 2; a bug keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LamError(Exception):
    """Input or configuration that cannot be used, with a message written for the user."""


class LamWarning(UserWarning):
    """Something that was assumed or looks wrong, but does not stop the work."""


def nearest(word: str, known: Iterable[str], *, count: int = 1) -> list[str]:
    """Return up to ``count`` of the ``known`` words that resemble ``word`` most (may be empty)."""
    return difflib.get_close_matches(word, list(known), n=count, cutoff=0.5)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> LamError:
    """Build the error for a name that does not exist: names the nearest and lists those there are.

    Args:
        kind: what was named, e.g. ``"head"``.
        name: what the user wrote.
        known: the names that exist.
    """
    known = list(known)
    close = nearest(name, known)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    listing = ", ".join(known) if known else "none"
    return LamError(f"There is no {kind} '{name}'.{hint} Known: {listing}.")
