"""A page about a training that runs or ran: ``lam train report RUN``."""

from __future__ import annotations

from lam.train.report.page import write_report

__all__ = ["write_report"]
