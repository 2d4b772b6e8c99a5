"""Convert a folder of structure files to shards and a manifest: `lam data convert` as a script.

    python data_prep/convert_folder.py ../shared/data data/shared configs/data/shared.yaml

The last argument, a table of levels of theory and licences, is optional.
"""

from __future__ import annotations

import os
import sys

from lam.data.convert import convert
from lam.errors import LamError


def main(folder: str, out: str, metadata: str | None = None) -> int:
    """Convert; return the exit status."""
    try:
        for result in convert([folder], out, metadata=metadata, jobs=os.cpu_count() or 1):
            print(f"{result.name}: {result.structures} structures, {result.atoms} atoms", flush=True)
    except LamError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
