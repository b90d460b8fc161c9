"""Measurements; installed as ``rdx_fast.bench``."""
