"""Divide an extended XYZ file into files of train, val and test, frame by frame as they are written there."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

from lam.atomic_write import atomic_file
from lam.data.readers import next_frame, open_text
from lam.data.splits import SPLITS, Split, SplitSpec
from lam.errors import LamError

RECORD = "split.json"


def refuse_to_overwrite(paths: list[Path]) -> None:
    """Raise unless none of the files is there.

    Raises:
        LamError: naming those that are.
    """
    if there := [f"'{path}'" for path in paths if path.exists()]:
        raise LamError(f"{', '.join(there)} would be overwritten; name another place, or add --force.")


def outputs(folder: str | Path) -> dict[str, Path]:
    """Return where the parts of a file go, by name; and the record of how it was split."""
    return {part: Path(folder) / f"{part}.extxyz" for part in SPLITS} | {"record": Path(folder) / RECORD}


def write_parts(source: Path, split: Split, spec: SplitSpec, folder: str | Path) -> dict[str, Path]:
    """Write ``train.extxyz``, ``val.extxyz`` and ``test.extxyz``, and ``split.json``; return those written.

    The frames are copied as text: nothing is converted, rounded or lost. All files are complete before the first of
    them gets its name; a part without frames has no file, and one of an earlier split is removed.

    Args:
        source: the file, may be compressed.
        split: of its frames.
        spec: for the record.
        folder: is made if it is not there.

    Raises:
        LamError: if the file cannot be read, or does not have the frames that were split.
    """
    paths = outputs(folder)
    counts = split.counts()
    with ExitStack() as stack:
        files = {
            part: stack.enter_context(
                open(stack.enter_context(atomic_file(paths[part])), "w", encoding="utf-8", newline="\n")
            )
            for part in SPLITS
            if counts[part]
        }
        record = stack.enter_context(atomic_file(paths["record"]))
        with open_text(source) as lines:
            for number, part in enumerate(split.names.tolist()):
                text = next_frame(lines, source, f"{source.name}#{number}")
                if text is None:
                    raise LamError(f"'{source}' changed while it was split: it has {number} frames now.")
                files[part].write(text if text.endswith("\n") else text + "\n")
        for file in files.values():
            file.close()  # a full disk is noticed here, before the first file gets its name
        values = {
            "source": source.name,
            "split": spec.model_dump(mode="json"),
            "mode": split.mode,
            "counts": counts,
            "frames": {part: split.rows(part).tolist() for part in SPLITS if part != "train"},
        }
        record.write_text(json.dumps(values) + "\n", encoding="utf-8")
    for part in SPLITS:
        if not counts[part]:
            paths[part].unlink(missing_ok=True)
    return {part: path for part, path in paths.items() if part in files}
