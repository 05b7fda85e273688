"""Benchmarks: commands that anyone can rerun; see README.md for the protocol."""
