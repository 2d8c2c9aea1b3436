"""Measurements that are no tests: each module runs by itself, ``python -m benchmarks.attention``."""
