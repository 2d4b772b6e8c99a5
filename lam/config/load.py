"""Read a configuration: a YAML file, then ``key=value`` overrides from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from lam.config.base import Section
from lam.errors import LamError

S = TypeVar("S", bound=Section)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        LamError: if the file is missing, is not YAML, or is not a mapping.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LamError(f"There is no file '{path}'.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise LamError(f"Cannot read '{path}': {error}.") from None
    except yaml.YAMLError as error:
        raise LamError(f"'{path}' is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(values, dict):
        raise LamError(f"'{path}' must hold a mapping of keys to values, but holds {type(values).__name__}.")
    return values


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """Turn ``["train.steps=10", "model.channels=32"]`` into a nested mapping; values are YAML.

    Raises:
        LamError: if an item has no ``=``, an empty key, or a value that is not YAML.
    """
    nested: dict[str, Any] = {}
    for item in overrides:
        key, sign, text = item.partition("=")
        if not sign or not key.strip():
            raise LamError(f"'{item}' is no override: write key=value, e.g. train.steps=100.")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise LamError(f"The value of the override '{item}' is not valid YAML.") from None
        node = nested
        *parents, last = key.strip().split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise LamError(f"The override '{item}' sets a key below another override's value.")
        node[last] = value
    return nested


def merge(base: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``update`` laid over it, mappings merged key by key."""
    merged = dict(base)
    for key, value in update.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            value = merge(merged[key], value)
        merged[key] = value
    return merged


def load_config(section: type[S], path: str | Path | None, overrides: Sequence[str] = ()) -> S:
    """Read ``path`` (``None``: all defaults), lay ``overrides`` over it, validate.

    Raises:
        LamError: naming the file and every key that is wrong.
    """
    values = read_yaml(path) if path is not None else {}
    values = merge(values, parse_overrides(overrides))
    where = f"'{path}'" if path is not None else "the configuration"
    return section.parse(values, where=where)
