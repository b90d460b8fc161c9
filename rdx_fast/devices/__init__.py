"""Devices of the GPU pipeline: a queue of work, memory and graphs."""
