"""Heuristics and baselines: CoDE's staged search, large neighbourhood search, greedy and others."""
