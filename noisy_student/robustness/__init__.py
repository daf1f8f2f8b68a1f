"""Robustness: the paper's benchmarks, and corrupted images of one's own."""
