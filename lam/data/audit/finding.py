"""What an audit says: findings, each with what, where, how sure, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

EXAMPLES = 3
"""Names written into a message; the finding itself lists up to :data:`LISTED`."""
LISTED = 50

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Repair:
    """A correction that is certain. Done only by ``--fix``."""

    what: Literal["scale", "drop", "mark isolated"]
    """``scale`` multiplies a label, ``drop`` leaves structures out, ``mark isolated`` sets their group."""
    label: str = ""
    """Label that is scaled: ``forces``, ``stress`` or ``energy``."""
    factor: float = 1.0
    """What it is multiplied by."""
    rows: tuple[int, ...] = ()
    """Places in the source, counted from 0, of the structures that are left out or marked."""


@dataclass(frozen=True)
class Finding:
    """One thing that a user should know.

    ``error`` means data that cannot be used, ``warning`` something suspicious, ``note`` something to know.
    A note with an empty :attr:`action` asks for nothing: it tells what was found to be right, or how it was done.
    """

    level: Level
    kind: str
    """Which check: ``units``, ``duplicates``, ``leakage``, ``theory``, ``state``, ..."""
    message: str
    """What is the matter, in one sentence without a full stop."""
    structures: tuple[str, ...] = ()
    """Names of the structures, ``file#frame``; at most :data:`LISTED`."""
    count: int = 0
    """How many structures it concerns; 0 for the data set as a whole."""
    confidence: float = 1.0
    """How sure the audit is that this is a mistake (or, of notes, that it is so), 0 to 1."""
    why: str = ""
    """Why it is that sure."""
    action: str = ""
    """What to do; empty if nothing."""
    repair: Repair | None = field(default=None, compare=False)
    """The correction, where it is certain."""

    @property
    def suspicious(self) -> bool:
        """Is it more than a note?"""
        return self.level != "note"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        values = {key: getattr(self, key) for key in ("level", "kind", "message", "count", "confidence", "why")}
        fixable = None if self.repair is None else self.repair.what
        return {**values, "action": self.action, "structures": list(self.structures), "fixable": fixable}


def few(items: Sequence[str], count: int | None = None) -> str:
    """Return the first :data:`EXAMPLES` of the items as text, and how many more there are of ``count``."""
    more = (len(items) if count is None else count) - min(EXAMPLES, len(items))
    return "; ".join(items[:EXAMPLES]) + (f"; and {more} more" if more > 0 else "")


@dataclass
class Examples:
    """Counts cases and remembers the first of them, so that memory stays flat."""

    count: int = 0
    names: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def add(self, name: str, text: str = "") -> None:
        """Take a structure's name and, for the message, what is the matter with it."""
        self.count += 1
        if len(self.names) < LISTED:
            self.names.append(name)
            self.texts.append(f"{name} ({text})" if text else name)

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        return few(self.texts, self.count)

    def finding(self, level: Level, kind: str, message: str, **more: Any) -> Finding:
        """Return a finding about these structures; the message gets the examples."""
        return Finding(level, kind, f"{message}: {self}", structures=tuple(self.names), count=self.count, **more)
