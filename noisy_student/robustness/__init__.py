"""The robustness benchmarks of the paper, each a command of its own."""
