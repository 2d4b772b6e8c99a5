"""``python -m lam`` is the command ``lam``."""

import sys

from lam.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
