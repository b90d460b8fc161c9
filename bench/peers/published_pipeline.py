"""The published RD4AD pipeline: eager torch in float32 with ``layer4`` computed, torch's cosine and
interpolation, SciPy's blur. ``MODEL`` is a folder of ``network.pt``, the state dict of our network,
and ``backbone``."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from PIL import Image

from rdx_fast.bench.features import published_blur, published_distances, published_upsampled
from rdx_fast.models import make_network
from rdx_fast.models.resnet import BasicBlock, BottleneckBlock, stage

MEAN, STD = (
    torch.tensor(v).reshape(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
)
# Block, blocks of layer4, base width.
LAYER4: dict[str, tuple[Any, int, int]] = {
    "resnet18": (BasicBlock, 2, 64),
    "resnet34": (BasicBlock, 3, 64),
    "resnet50": (BottleneckBlock, 3, 64),
    "wide_resnet50_2": (BottleneckBlock, 3, 128),
}


def pipeline(model: Path, threads: int) -> tuple[Any, str]:
    torch.set_num_threads(threads)
    backbone = (model / "backbone").read_text()
    network = make_network("rd4ad", backbone).eval()
    network.load_state_dict(torch.load(model / "network.pt", weights_only=True))
    block, count, width = LAYER4[backbone]
    layer4 = stage(block, 256 * block.expansion, 512, count, 2, base_width=width).eval()

    def score(frame: Any) -> tuple[float, Any, dict[str, float]]:
        with torch.inference_mode():
            times = [perf_counter()]
            image = Image.fromarray(frame).resize((256, 256), Image.Resampling.BILINEAR)
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
            x = ((pixels - MEAN) / STD)[None]
            times.append(perf_counter())
            teacher, student = network(x)
            times.append(perf_counter())
            layer4(teacher[-1])
            times.append(perf_counter())
            upsampled = published_upsampled(published_distances(teacher, student))
            anomaly_map = published_blur(torch.stack(upsampled).sum(0))[0]
            value = anomaly_map.max()
            times.append(perf_counter())
        stages = 1e3 * np.diff(times)
        names = ("preprocess", "network", "layer4", "postprocess")
        return value, anomaly_map, dict(zip(names, stages.tolist(), strict=True))

    return score, "fp32"
