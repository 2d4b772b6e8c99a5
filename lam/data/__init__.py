"""Structures and labels: reading, checking, storing, batching. Knows nothing of models or training."""
