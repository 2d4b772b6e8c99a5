"""Fine-tune: ``python finetune.py --model lam-nano --data labels.extxyz --method head --out my-model``."""

import sys

from lam.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["finetune", *sys.argv[1:]]))
