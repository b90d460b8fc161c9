"""Time of a training step, and its share of the machine's limit, as rows for ``bench/results``:
``python -m rdx_fast.bench.training --help``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

from rdx_fast.bench.result_rows import append, facts
from rdx_fast.bench.step_times import step_times
from rdx_fast.datasets import find_dataset
from rdx_fast.images import list_images
from rdx_fast.models import make_network
from rdx_fast.training import Recipe, step_graph
from rdx_fast.training.precision import training_precision

_SIDE = 2048  # of the matrices whose product measures the limit


# Options of this benchmark and of ``training_against``.
Images = Annotated[Path, typer.Argument(help="Category folder, or folder of good images.")]
Output = Annotated[Path | None, typer.Option(help="JSON lines to append to.")]
Method = Annotated[str, typer.Option(help="Method.")]
BackboneKey = Annotated[str, typer.Option(help="Backbone.")]
Weights = Annotated[Path | None, typer.Option(help="The teacher's weights.")]
Textures = Annotated[Path | None, typer.Option(help="Folder of texture images.")]
Size = Annotated[tuple[int, int], typer.Option(help="Height and width.")]
Steps = Annotated[int, typer.Option(min=3, help="Steps of a run.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of torch.")]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")]


def main(
    dataset: Images,
    output: Output = None,
    method: Method = "rd4ad",
    backbone: BackboneKey = "efficientnet_lite0",
    weights: Weights = None,
    textures: Textures = None,
    image_size: Size = (128, 128),
    steps: Steps = 12,
    rounds: Annotated[int, typer.Option(min=1, help="Runs of each precision.")] = 3,
    threads: Threads = 1,
    device: Device = "cpu",
    eager: Annotated[
        bool, typer.Option("--eager", help="On a GPU without CUDA graphs, for comparison.")
    ] = False,
    profiled: Annotated[
        bool, typer.Option("--profile", help="Only print where a run's time goes, by operator.")
    ] = False,
) -> None:
    """Time the steps of training in each precision of this machine, in turn.

    The limit is the rate of a product of large matrices in the same precision and number of
    threads. On a CPU the time is the CPU time of this process, which other programs disturb little;
    the processes that load data are not part of it. On a GPU it is the time that passes, waiting
    for data included; float32 is TF32 there, as in torch's convolutions.
    """
    torch.set_num_threads(threads)
    images = find_dataset(dataset).train()
    recipe = Recipe(method=method, backbone=backbone, image_size=image_size, iterations=steps)
    options: dict[str, Any] = {"weights": weights, "device": device}
    on_cpu = device == "cpu"
    if recipe.makes_anomalies:
        options |= {"textures": list_images(textures) if textures else []}
        options |= {"workers": 1} if on_cpu else {}
    recipes = {"fp32": replace(recipe, amp=False)}
    if training_precision(recipe, torch.device(device)) == "bf16":
        recipes["bf16"] = recipe
    clock = time.process_time if on_cpu else time.perf_counter
    if eager:
        step_graph.EAGER_STEPS = steps
    if profiled:
        with profile() as found:
            step_times(recipe, images, options, clock)
        kind = "cpu" if on_cpu else "cuda"
        print(found.key_averages().table(sort_by=f"self_{kind}_time_total", row_limit=15))
        return
    seconds: dict[str, list[float]] = {name: [] for name in recipes}
    rates: dict[str, list[float]] = {name: [] for name in recipes}
    for _ in range(rounds):
        for name, chosen in recipes.items():
            seconds[name].append(float(np.median(step_times(chosen, images, options, clock))))
            dtype = torch.bfloat16 if name == "bf16" else torch.float32
            rates[name].append(_matrix_rate(dtype, device, clock))
    operations = _operations(recipe)
    common = facts("training" if on_cpu else "training-gpu", ("torch", "numpy"))
    if not on_cpu:
        common |= {"gpu": torch.cuda.get_device_name(device), "graphs": not eager}
    rows = []
    for name in recipes:
        ratios = np.array(seconds[name]) / np.array(seconds["fp32"])
        rows.append(
            common
            | {
                "method": method,
                "backbone": backbone,
                "image_size": list(image_size),
                "batch": recipe.batch,
                "threads": threads,
                "precision": name,
                "seconds": round(float(np.median(seconds[name])), 4),
                "against_fp32": [round(float(v), 3) for v in np.percentile(ratios, (0, 50, 100))],
                "gflop": round(operations / 1e9, 1),
                "share_of_limit": round(
                    operations / float(np.median(seconds[name])) / float(np.median(rates[name])), 3
                ),
            }
        )
        print(rows[-1])
    if output is not None:
        append(output, rows)


def _matrix_rate(dtype: torch.dtype, device: str, clock: Callable[[], float]) -> float:
    """Floating-point operations of a matrix product in a second."""
    side = _SIDE if device == "cpu" else 4 * _SIDE
    torch.backends.cuda.matmul.allow_tf32 = True
    a = torch.randn(side, side, device=device).to(dtype)
    times = []
    for _ in range(6):
        started = clock()
        (a @ a)[0, 0].item()  # which waits for a GPU
        times.append(clock() - started)
    return 2 * side**3 / float(np.median(times[1:]))


def _operations(recipe: Recipe) -> float:
    """Floating-point operations of a step's convolutions; a backward pass counts as two forward.

    RD4AD: forward and backward of the decoding, with kept features. RD with Expert, for the good
    and the anomalous images: forward and backward of teacher and decoding, the updated teacher's
    forward pass, and the expert's of the anomalous images.
    """
    height, width = recipe.image_size
    with torch.device("meta"), torch.no_grad():
        network = make_network(recipe.method, recipe.backbone, recipe.injection).eval()
        images = torch.zeros(recipe.batch, 3, height, width)
        with FlopCounterMode(display=False) as whole:
            network(images)
        with FlopCounterMode(display=False) as part:
            network.teacher(images)
    teacher = part.get_total_flops()
    decoding = whole.get_total_flops() - teacher
    if recipe.makes_anomalies:
        return float(2 * (3 + 1) * teacher + teacher + 2 * 3 * decoding)
    return float(3 * decoding)


if __name__ == "__main__":
    typer.run(main)
