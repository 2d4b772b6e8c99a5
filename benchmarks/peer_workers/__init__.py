"""One module per code: what runs in its process. ``run.py`` is the process."""
