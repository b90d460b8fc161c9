"""Time of training steps. Uses nothing of the project but ``train``, so that this file can time
another checkout: ``PYTHONPATH=CHECKOUT python -P step_times.py JSON`` prints seconds as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import rdx_fast
from rdx_fast.training import Progress, Recipe, train

UNTIMED = 2  # steps at the start of a run, which allocate


def step_times(
    recipe: Recipe,
    images: Sequence[Path],
    options: Mapping[str, Any],
    clock: Callable[[], float] = time.process_time,
) -> list[float]:
    """Time of each step but the first ones, in seconds.

    Args:
        recipe: of the run
        images: of good parts
        options: further arguments of ``train``
        clock: gives seconds; by default, CPU time of this process
    """
    ends: list[float] = []

    def note(_: Progress) -> None:
        ends.append(clock())

    with tempfile.TemporaryDirectory() as folder:
        train(recipe, images, Path(folder) / "run", on_step=note, **options)
    return [end - begin for begin, end in zip(ends[UNTIMED - 1 :], ends[UNTIMED:], strict=False)]


def step_times_of(
    checkout: Path,
    recipe: Mapping[str, Any],
    images: Sequence[Path],
    options: Mapping[str, Any],
    threads: int,
) -> list[float]:
    """The same in a process of its own, by the project's code in a checkout.

    Args:
        checkout: root folder of the checkout
        recipe: arguments of its ``Recipe``
        images: of good parts
        options: further arguments of its ``train``
        threads: of torch

    Raises:
        subprocess.CalledProcessError: the checkout cannot train so
    """
    given = {
        "checkout": checkout.resolve(),
        "recipe": recipe,
        "images": images,
        "options": options,
        "threads": threads,
    }
    command = [sys.executable, "-P", __file__, json.dumps(given, default=str)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: list[float] = json.loads(done.stdout)
    return found


def _main(given: dict[str, Any]) -> None:
    if not Path(rdx_fast.__file__).resolve().is_relative_to(given["checkout"]):
        raise SystemExit(f"{given['checkout']} holds no package rdx_fast: give a checkout's root")
    torch.set_num_threads(given["threads"])
    recipe = given["recipe"] | {"image_size": tuple(given["recipe"]["image_size"])}
    options = given["options"]
    if options.get("weights"):
        options["weights"] = Path(options["weights"])
    if options.get("textures"):
        options["textures"] = [Path(path) for path in options["textures"]]
    print(json.dumps(step_times(Recipe(**recipe), [Path(p) for p in given["images"]], options)))


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
