"""The inspection recipe: frames, regions and tiles."""
