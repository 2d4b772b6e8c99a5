"""Pretrain: ``python train.py configs/pretrain/nano.yaml [key=value ...]``, also under ``torchrun``."""

import sys

from lam.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
