"""What the benchmark scripts share. Only ``structures`` is used in the environments of other codes."""
