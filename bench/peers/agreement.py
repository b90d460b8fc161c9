"""Whether a peer's scores make sense, and how far they are from the published pipeline's."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rdx_fast.evaluation.metrics import auroc

# Largest difference of a score from the published pipeline's, as a share of the published
# threshold, of the same network executed in float32, on frames of its own size.
EXACT = 1e-3
OTHER_BORDER = 0.02
# Largest difference of the image AUROC, of the same network in any precision.
AUROC = 0.03
# A peer that says nothing gives one value, or some constants. More is not asked of a set of images:
# bfloat16 has 8 bits, of which scores near each other share most. Those of an untrained network are
# so near that two values are all that can be asked of it.
DISTINCT = 5


class Scored(NamedTuple):
    """``scores: [n]`` of a peer, what it executed, and the threshold that judges them."""

    name: str
    executed: str
    scores: NDArray[np.float64]
    threshold: float


def agreement(
    peer: Scored,
    published: Scored | None,
    defective: NDArray[np.bool_],
    largest: float = EXACT,
    trained: bool = True,
) -> dict[str, Any]:
    """What a row says of a peer's scores. ``published``: the published pipeline's of the same
    network, None for another network; ``defective: [n]``; ``largest``: difference of a score that
    float32 may have, as a share of the published threshold.

    Raises ``RuntimeError`` for scores that are not finite or take few values; and of the same
    network, if float32 does not score as published, or if any precision does not rank good and
    defective parts about as well.
    """
    scores = peer.scores
    few = DISTINCT if trained else 1
    if not np.isfinite(scores).all() or len(np.unique(scores)) <= few:
        raise RuntimeError(f"{peer.name} gives no scores: {scores}")
    found = auroc(defective, scores.astype(np.float32))
    row: dict[str, Any] = {"images": len(scores), "image_auroc": round(found, 4)}
    if published is None:
        return row
    difference = float(np.abs(scores - published.scores).max()) / published.threshold
    differ = (scores > peer.threshold) != (published.scores > published.threshold)
    row |= {"score_difference": round(difference, 6), "verdicts_that_differ": int(differ.sum())}
    if peer.executed == "fp32" and not difference <= largest:
        raise RuntimeError(f"{peer.name} executes fp32 and does not score as published: {row}")
    wanted = auroc(defective, published.scores.astype(np.float32))
    if abs(found - wanted) > AUROC:
        raise RuntimeError(f"{peer.name} has another AUROC than the published {wanted:.4f}: {row}")
    return row
