"""Measurements behind the claims that the README makes; `python -m benchmarks --help` lists them."""
