"""Real networks: cut into blocks, counted, trained, measured.

The only layer that imports torch (extra ``networks``); importing this package alone does not.
"""
