"""Limits of scores, how they are calibrated, and what they promise."""
