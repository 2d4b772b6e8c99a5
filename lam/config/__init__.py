"""Configuration: strict, documented sections, read from YAML with ``key=value`` overrides."""

from lam.config.base import Section
from lam.config.load import load_config, parse_overrides

__all__ = ["Section", "load_config", "parse_overrides"]
