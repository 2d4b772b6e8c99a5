"""The demo: `make demo` or `python -m lam.demo`."""
