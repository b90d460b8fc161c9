"""Detectors under other recipes than their bundle's."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from rdx_fast import Detector
from rdx_fast.engines import Engine
from rdx_fast.recipe.recipe import InspectionRecipe


def under(recipe: InspectionRecipe, engine: Engine, **options: Any) -> Detector:
    """A detector of the same engine under another recipe, by the limits of the engine's own."""
    changed = copy.copy(engine)
    changed.manifest = replace(engine.manifest, recipe=recipe)
    return Detector(changed, **{"limits": engine.execution.limits, **options})
