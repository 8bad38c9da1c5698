"""Benchmarks of Levada on a real cluster, installed from its chart: `make bench-cluster`."""
