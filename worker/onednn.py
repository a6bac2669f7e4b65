"""What processes that make matrix products ask of oneDNN; read by it when torch is loaded."""

PROGRAMS = {"LRU_CACHE_CAPACITY": "128", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "128"}
"""The environment in which PyTorch and oneDNN keep so many programs for shapes of products, in place of 1024.

Each takes 0.4 MB, and texts of all lengths bring new shapes without end: an engine that had answered 600 prompts held
0.4 GB more than with these, at the same speed. A pass of training meets 30 to 60 shapes; with 32 programs its step
took 6 % longer.
"""
