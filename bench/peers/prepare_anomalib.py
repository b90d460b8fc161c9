"""Make anomalib's models and export them to OpenVINO:
``prepare_anomalib.py KIND OUT [WEIGHTS BACKBONE | BACKBONE | GOOD]``.

``KIND`` is "rd" (ReverseDistillation with our trained weights, so that its scores can be held
against ours), "rd_as_shipped" (the same untrained: for wide networks anomalib's bottleneck is half
as wide as the published one, which costs less), "padim" (fitted to the frames in ``GOOD``, a
``.npy`` of uint8 ``[N, H, W, 3]``) or "efficient_ad" (untrained: its teacher cannot be had without
a download, and its speed does not depend on it). Prints the path of the ``model.xml``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomalib.models import EfficientAd, Padim, ReverseDistillation
from anomalib.models.image.reverse_distillation.components import get_bottleneck_layer
from safetensors.torch import load_file
from torch.nn import functional

# Our prefixes, and the parts of anomalib's model.
PARTS = {
    "teacher.": "encoder.feature_extractor.",
    "bottleneck.": "bottleneck.",
    "student.": "decoder.",
}
# In the published bottleneck, but not on the way from image to features.
UNUSED = ("bottleneck.conv4.", "bottleneck.bn4.")


def rd(weights: str, backbone: str) -> Any:
    module = rd_as_shipped(backbone)
    width = 128 if backbone.startswith("wide") else 64
    module.model.bottleneck = get_bottleneck_layer(backbone, width_per_group=width)
    state = {
        theirs + key.removeprefix(ours): value
        for key, value in load_file(weights).items()
        for ours, theirs in PARTS.items()
        if key.startswith(ours)
    }
    missing, unexpected = module.model.load_state_dict(state, strict=False)
    missing = [key for key in missing if not key.startswith(UNUSED)]
    if missing or unexpected:
        raise SystemExit(f"the weights do not fit: missing {missing}, unexpected {unexpected}")
    return module


def rd_as_shipped(backbone: str) -> Any:
    torch.manual_seed(0)
    return ReverseDistillation(backbone=backbone, pre_trained=False)


def padim(good: str) -> Any:
    torch.manual_seed(0)
    module = Padim(pre_trained=False)
    module.model.train()
    with torch.no_grad():
        for frame in np.load(good):
            pixels = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
            pixels = functional.interpolate(pixels, size=(256, 256), mode="bilinear")
            module.model(module.pre_processor(pixels))
    module.model.fit()
    return module


def efficient_ad() -> Any:
    torch.manual_seed(0)
    return EfficientAd()


def main() -> None:
    kind, out, *arguments = sys.argv[1:]
    kinds: dict[str, Callable[..., Any]] = {
        "rd": rd,
        "rd_as_shipped": rd_as_shipped,
        "padim": padim,
        "efficient_ad": efficient_ad,
    }
    module = kinds[kind](*arguments)
    print(module.eval().to_openvino(Path(out)))


if __name__ == "__main__":
    main()
