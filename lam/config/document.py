"""Write the documentation of configuration sections from the sections themselves.

Keys, types, defaults, constraints and meanings are read from the pydantic fields, so the page cannot
disagree with what is accepted. `docs/generate.py` makes docs/configuration.md with it.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from lam.config.base import Section

_NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false", Path: "path", Any: "any"}


class Row(NamedTuple):
    """One key of a configuration as a line of a table; every entry is Markdown."""

    key: str
    type: str
    default: str
    constraint: str
    meaning: str


def document(section: type[Section]) -> str:
    """Return a Markdown table of all keys of a section, nested ones with dots between.

    Args:
        section: the class to document.
    """
    lines = ["| key | type | default | constraint | meaning |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(_escape(cell) for cell in row) + " |" for row in rows(section)]
    return "\n".join(lines) + "\n"


def rows(section: type[Section], prefix: str = "") -> Iterator[Row]:
    """Yield a row for every key of a section; a nested section gives the rows of its keys."""
    for name, field in section.model_fields.items():
        key = prefix + name
        inner, path = _nested(field.annotation, key)
        if inner is None:
            yield Row(f"`{key}`", _type(field.annotation), _default(field), _constraint(field), _meaning(field))
            continue
        if path != f"{key}.":  # a list or a table of sections is a key with a meaning of its own
            yield Row(f"`{key}`", _type(field.annotation), _default(field), _constraint(field), _meaning(field))
        yield from rows(inner, path)


def _nested(annotation: Any, key: str) -> tuple[type[Section] | None, str]:
    """Return the section that a field holds, if any, and the prefix of its keys."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation, f"{key}."
    arguments = get_args(annotation)
    if arguments and isinstance(arguments[-1], type) and issubclass(arguments[-1], Section):
        return arguments[-1], f"{key}[]." if get_origin(annotation) is list else f"{key}.NAME."
    return None, ""


def _type(annotation: Any) -> str:
    if annotation in _NAMES:
        return _NAMES[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if part is type(None) else _type(part) for part in arguments)
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"mapping of {_type(arguments[0])} to {_type(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "sections (below)"
    raise TypeError(f"document how to write the type {annotation} in lam/config/document.py")


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    if field.default is None:
        return "null"
    if isinstance(field.default, bool):
        return f"`{str(field.default).lower()}`"
    return '`""`' if field.default == "" else f"`{field.default}`"


def _constraint(field: FieldInfo) -> str:
    parts = []
    for rule in field.metadata:
        if isinstance(rule, Ge):
            parts.append(f">= {rule.ge:g}")
        elif isinstance(rule, Gt):
            parts.append(f"> {rule.gt:g}")
        elif isinstance(rule, Le):
            parts.append(f"<= {rule.le:g}")
        elif isinstance(rule, Lt):
            parts.append(f"< {rule.lt:g}")
        elif isinstance(rule, MinLen):
            parts.append("not empty" if rule.min_length == 1 else f"at least {rule.min_length}")
        elif isinstance(rule, MaxLen):
            parts.append(f"at most {rule.max_length}")
        elif getattr(rule, "pattern", None):
            parts.append(f"matches `{rule.pattern}`")
        else:
            raise TypeError(f"document how to write the constraint {rule} in lam/config/document.py")
    return ", ".join(parts)


def _meaning(field: FieldInfo) -> str:
    return " ".join(inspect.cleandoc(field.description or "").replace("``", "`").split())


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|")
