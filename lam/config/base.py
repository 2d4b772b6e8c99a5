"""The base of every configuration section: pydantic, strict about keys, kind in its messages.

A section is a class with typed, documented fields; defaults, documentation and validation have
this one source. Unknown keys are errors that name the nearest known key.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from lam.errors import LamError, nearest


class Section(BaseModel):
    """One section of a configuration. Immutable, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @classmethod
    def parse(cls, values: dict[str, Any], *, where: str = "configuration") -> Self:
        """Validate a nested mapping.

        Args:
            values: plain values, as read from YAML or JSON.
            where: what the messages call the source, e.g. the path of the file.

        Raises:
            LamError: with one line per problem; an unknown key names the nearest known one.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            lines = [_describe(cls, problem) for problem in error.errors()]
            text = "; ".join(lines)
            raise LamError(f"In {where}: {text}{'' if text.endswith('?') else '.'}") from None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that :meth:`parse` turns back into an equal section."""
        return self.model_dump(mode="json")


def _describe(root: type[BaseModel], problem: dict[str, Any]) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = list(_fields_at(root, problem["loc"][:-1]))
        close = nearest(str(problem["loc"][-1]), known)
        hint = f", did you mean '{close[0]}'?" if close else f", known are {', '.join(known)}"
        return f"unknown key '{path}'{hint}"
    if problem["type"] == "missing":
        return f"the key '{path}' is missing"
    return f"'{path}' = {problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _fields_at(root: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """Return the field names of the section at ``path``, looking through optional and list types."""
    section = root
    for part in path:
        field = section.model_fields.get(part) if isinstance(part, str) else None
        if field is None:
            continue  # an index into a list, or a key of a free mapping
        for candidate in _sections_in(field.annotation):
            section = candidate
            break
    return list(section.model_fields)


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    found: list[type[BaseModel]] = []
    for inner in getattr(annotation, "__args__", ()):
        found += _sections_in(inner)
    return found
