"""Lightning without its chatter, and interruptions that stay interruptions."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import lightning.pytorch as pl

_LOGGERS = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")

# What Lightning warns of and what is so on purpose here.
_HARMLESS = (
    r".*isinstance\(treespec, LeafSpec\).*",  # Lightning's own use of torch
    r".*does not have many workers.*",
    r".*persistent_workers=True.*",
    r".*GPU available.*",
    r".*Total length of `(list|DataLoader|CombinedLoader)` across ranks is zero.*",
    r".*number of training batches .* is smaller than the logging interval.*",
    r".*module\(s\) in eval mode.*",
    r".*your dataloader is not resumable.*",  # its sampler is, see lam/train/data.py
    r".*callbacks used to create the checkpoint need to be provided.*",
    r".*The dirpath has changed from.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*sync_dist=True.*",  # the module has summed over processes itself
    r".*no `val_dataloader`.*|.*You passed in a `val_dataloader`.*",
    r".*`lr_scheduler.step\(\)` before `optimizer.step\(\)`.*",
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's hints inside the block; warnings and loggers are as before afterwards."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    with warnings.catch_warnings():
        for text in _HARMLESS:
            warnings.filterwarnings("ignore", text)
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


@contextmanager
def interruptible(trainer: pl.Trainer) -> Iterator[None]:
    """Turn what Lightning makes of Ctrl-C (ignore the signal for good, ``sys.exit(1)``) back.

    Raises:
        KeyboardInterrupt: if the training inside the block was interrupted.
    """
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if in_main else None
    try:
        yield
    except SystemExit:
        if trainer.interrupted and not trainer.received_sigterm:
            raise KeyboardInterrupt from None
        raise
    finally:
        if in_main and handler is not None:
            signal.signal(signal.SIGINT, handler)
