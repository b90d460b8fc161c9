"""A peer in a process and an environment of its own: ``worker.py PEER MODEL THREADS [PRECISION]``.

Reads commands as JSON lines and answers each with one: ``{"frames": FILE}`` loads a ``.npy`` of
uint8 ``[N, H, W, 3]`` RGB; ``{"score": [i, ...]}`` scores those frames one by one,
``{"maps": FILE}`` keeps the last map. Only the call that a user would make is timed. Before that it
says what arithmetic the opened network is executed in, as its runtime tells it (torch and ONNX
Runtime run float32 as they are called here, and are not asked). Runs without
rdx_fast: each peer's module imports what it needs.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

# name: (module, function that opens a model and returns "frame to score, map, stages" and the
# precision that is executed). PRECISION is passed on to those that have a choice.
PEERS = {
    "rdx_fast": ("ours", "detector"),
    "published": ("published_pipeline", "pipeline"),
    "onnxruntime": ("plain", "onnxruntime"),
    "openvino": ("plain", "openvino"),
    "anomalib": ("anomalib_peer", "inferencer"),
}


# OpenVINO's names of element types, and ours.
NAMES = {"f32": "fp32", "f16": "fp16", "i8": "int8"}


def peak_mb() -> float:
    """Most memory of this process so far; getrusage would count the parent's, from before exec."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def main() -> None:
    peer, model, threads, *precision = sys.argv[1:]
    # Whatever a package prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    module, function = PEERS[peer]
    opened = getattr(importlib.import_module(module), function)
    score, executed = opened(Path(model), int(threads), *precision)
    frames: Any = None
    last: Any = None
    print(json.dumps({"ready": peer, "executed": NAMES.get(executed, executed)}), file=answers)
    for line in sys.stdin:
        command = json.loads(line)
        answer: dict[str, Any] = {}
        if "frames" in command:
            frames = np.load(command["frames"])
            answer["frames"] = len(frames)
        elif "maps" in command:
            np.save(command["maps"], last)
        else:
            answer = {"ms": [], "scores": [], "stages": []}
            for index in command["score"]:
                begin = perf_counter()
                value, last, stages = score(frames[index])
                answer["ms"].append(1e3 * (perf_counter() - begin))
                answer["scores"].append(float(value))
                answer["stages"].append(stages)
        answer["peak_mb"] = peak_mb()
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
