"""Engine bundles: their manifest, what changed in them, and their signature."""
