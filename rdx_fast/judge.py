"""From scores to verdicts: limits and p-values of every region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rdx_fast.bundle.manifest import ExecutionSpec, Manifest
from rdx_fast.engines.engine import Engine
from rdx_fast.errors import RecipeError
from rdx_fast.limits.calibration import p_values
from rdx_fast.limits.limits import NG, OK, REVIEW, VERDICTS, Limits


class Judgement(NamedTuple):
    """Verdicts of B images.

    Attributes:
        verdicts: "OK", "REVIEW" or "NG", the worst of all regions
        deciding: int64 [B], index of the region that decided: of those with the worst verdict, the
            one whose score is the largest multiple of its OK limit
        p_values: float64 [B], see ``Result``; None without calibration scores
    """

    verdicts: list[str]
    deciding: NDArray[np.int64]
    p_values: NDArray[np.float64] | None

    def of_deciding(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of ``[B, R]``, the scores of the deciding regions."""
        return scores[np.arange(len(scores)), self.deciding]


class Judge:
    """Compares scores with the limits.

    Args:
        limits: of R regions
        calibration: scores of good images, float32 [n, R] sorted in each column; None where the
            bundle holds none that these limits hold for

    Attributes:
        limits: as given
        calibration: as given
    """

    def __init__(
        self, limits: Sequence[Limits], calibration: NDArray[np.float32] | None = None
    ) -> None:
        self.limits = tuple(limits)
        # In float32, as scores are: a limit that was a score is not exceeded by that score.
        self._ok_below = np.array([limit.ok_below.value for limit in limits], np.float32)
        # A product, unlike a quotient, is rounded alike by all that execute standalone files.
        self._per_limit = 1 / self._ok_below
        self._ng_above = np.array([limit.ng_above.value for limit in limits], np.float32)
        self.calibration = calibration
        self._first = (float(self._ok_below[0]), float(self._ng_above[0]))

    @classmethod
    def of_engine(cls, engine: Engine, limits: Sequence[Limits] | None = None) -> Judge:
        """By the limits of what an engine executes, or by others for the same regions.

        Raises:
            RecipeError: the recipe was changed after its limits were calibrated
            ValueError: the limits are of other regions
            BundleError: the calibration scores cannot be read
        """
        execution, recipe = engine.execution, engine.manifest.recipe
        current = execution.inspected_sha256 == recipe.inspected_sha256()
        if limits is None:
            check_limits_hold(engine.manifest, execution)
            limits = execution.limits
        regions = tuple(limit.region for limit in limits)
        if regions != recipe.inspected:
            raise ValueError(
                f"limits are given of regions {list(regions)}, the recipe has "
                f"{list(recipe.inspected)}"
            )
        scores = engine.bundle.calibration().get(execution.label) if current else None
        return cls(limits, scores)

    def __call__(self, scores: NDArray[np.float32]) -> Judgement:
        """Judge ``scores``, float32 [B, R], all finite."""
        calibration = self.calibration
        p = None if calibration is None else p_values(scores, calibration)
        if scores.shape[1] == 1:  # the usual case: plain numbers take less time than arrays
            verdicts = [self._of_one(score) for score in scores[:, 0].tolist()]
            return Judgement(verdicts, np.zeros(len(scores), np.int64), p)
        severity = (scores > self._ok_below).astype(np.int64) + (scores > self._ng_above)
        worst = severity.max(axis=1)
        relative = np.where(severity == worst[:, None], scores * self._per_limit, -np.inf)
        return Judgement(
            verdicts=[VERDICTS[found] for found in worst],
            deciding=relative.argmax(axis=1),
            p_values=p,
        )

    def _of_one(self, score: float) -> str:
        ok_below, ng_above = self._first
        return NG if score > ng_above else REVIEW if score > ok_below else OK


def check_limits_hold(manifest: Manifest, execution: ExecutionSpec) -> None:
    """Raises ``RecipeError`` if the recipe was changed after an execution's limits were
    calibrated."""
    if execution.inspected_sha256 != manifest.recipe.inspected_sha256():
        raise RecipeError(
            f"bundle {manifest.name}: the recipe was changed after the limits of "
            f"{execution.label} were calibrated: calibrate them again (rdx-fast calibrate)"
        )
