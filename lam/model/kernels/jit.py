"""Numba's compiler with the settings of all kernels, and a cache on disk that notices when a kernel has changed."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba

FASTMATH = {"contract", "arcp", "nsz", "reassoc"}
"""Not ``nnan`` and ``ninf``: a NaN must come out as one."""


def jit(function: Callable[..., Any] | None = None, *, text: str = "", **options: Any) -> Callable[..., Any]:
    """Compile ``function`` at its first call and keep the result on disk, where there is a place that can be written.

    Kernels release the interpreter lock, and division by zero gives an infinity as it does in NumPy: raising
    would cost a branch in every loop.

    Args:
        function: what to compile.
        text: source of a function that stands in no file: what is kept on disk holds for this text alone.
        options: settings of ``numba.njit`` that differ from those of the other kernels.
    """
    settings = {"fastmath": FASTMATH, "nogil": True, "error_model": "numpy"} | options

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            compiled = numba.njit(cache=True, **settings)(function)
            _watch(compiled._cache, digest(sys.modules[function.__module__], text + _words(settings)))
        except (RuntimeError, AttributeError, KeyError, OSError, TypeError):
            # Neither the package's folder nor the user's cache can be written, or nothing can be said about the source.
            return numba.njit(**settings)(function)
        return compiled

    return decorate if function is None else decorate(function)


def _words(settings: dict[str, Any]) -> str:
    """Return settings in words that are the same in every process."""
    return repr(sorted((name, sorted(value) if isinstance(value, set) else value) for name, value in settings.items()))


def _watch(kept: Any, text: str) -> None:
    """Make what is kept on disk of a function hold only as long as ``text`` stays the same.

    Numba knows its cache by a hash of the file that the function is in and by the types of the arguments. Inlined
    functions, constants and intrinsics of other files, which are compiled into it, could change unnoticed; so could
    the order of the fields of named tuples; and where a class of these has moved, reading would end in an error.

    Args:
        kept: Numba's cache of one function. Its attributes are private, but there is no other way to say it.
        text: the digest.

    Raises:
        AttributeError: if this version of Numba keeps its cache in another way.
    """
    file, key, load = kept._cache_file, kept._index_key, kept.load_overload
    if file._source_stamp != kept._impl.locator.get_source_stamp():
        raise AttributeError("_source_stamp is not what it was")

    def load_or_forget(signature: Any, context: Any) -> Any:
        try:
            return load(signature, context)
        except Exception:  # whatever a class that is no longer there makes of unpickling
            kept.flush()
            return None

    file._source_stamp = (file._source_stamp, text)
    kept._index_key = lambda signature, codegen: (*key(signature, codegen), _fields(signature))
    kept.load_overload = load_or_forget


def _fields(signature: Any) -> tuple[Any, ...]:
    """Return the names of the fields of all named tuples among the types of arguments."""
    kinds = getattr(signature, "args", signature)
    tuples = [kind for kind in kinds if isinstance(kind, numba.types.BaseTuple)]
    return tuple((getattr(kind, "fields", ()), _fields(tuple(kind))) for kind in tuples)


def digest(module: Any, text: str = "") -> str:
    """Return a hash of ``text``, of a module's file, and of all files of the same package that it imports.

    Raises:
        TypeError, OSError: if a module has no file that can be read.
    """
    files: dict[str, bytes] = {}
    _collect(module, files)
    parts = [text.encode(), *(files[name] for name in sorted(files))]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _collect(module: Any, files: dict[str, bytes]) -> None:
    """Add the text of a module's file and of those that it imports to ``files``, by name."""
    if module.__name__ in files or module.__name__ == __name__:  # of this file only the settings matter
        return
    files[module.__name__] = Path(inspect.getfile(module)).read_bytes()
    packages = {__name__.partition(".")[0], module.__name__.partition(".")[0]}
    for name in _imported(files[module.__name__], getattr(module, "__package__", None) or ""):
        # Of ``from a import b`` the module a.b if there is one, else a.
        found = sys.modules.get(name) or sys.modules.get(name.rpartition(".")[0])
        if found is not None and name.partition(".")[0] in packages:
            _collect(found, files)


@cache
def _imported(source: bytes, package: str) -> tuple[str, ...]:
    """Return what the statements at the top of a file import, dotted; names of modules come with ``import``."""
    names = []
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Import):
            names += [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            start = "." * statement.level + (statement.module or "")
            start = importlib.util.resolve_name(start, package)
            names += [f"{start}.{alias.name}" for alias in statement.names]
    return tuple(names)
