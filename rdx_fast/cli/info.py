"""The command ``info``: shows the content of a bundle."""

from __future__ import annotations

from rdx_fast.bundle.bundle import Bundle, open_bundle
from rdx_fast.cli import tables
from rdx_fast.cli.common import BundlePath, JsonFlag, data
from rdx_fast.engines.tensorrt.plan import describe_plan, stored_keys
from rdx_fast.errors import EngineError
from rdx_fast.kernels.gpu.library import KERNELS, describe_kernels


def info(bundle: BundlePath, as_json: JsonFlag = False) -> None:
    """Verify a bundle and print its manifest, and what it holds for GPUs."""
    opened = open_bundle(bundle)
    manifest = opened.manifest
    if as_json:
        print(manifest.to_json(), end="")
    else:
        data.print(tables.manifest_table(manifest))
        data.print(tables.recipe_table(manifest))
        data.print(*tables.limits_tables(manifest))
        data.print(tables.executions_table(manifest))
        for line in _for_gpus(opened):
            data.print(line, markup=False, soft_wrap=True)


def _for_gpus(bundle: Bundle) -> list[str]:
    """The bundle's plans and kernels, one on each line."""
    plans = [describe_plan(k, bundle.path, bundle.manifest) for k in stored_keys(bundle.path)]
    try:
        kernels = describe_kernels(bundle.path / KERNELS)
    except EngineError as error:
        kernels = str(error) if (bundle.path / KERNELS).is_dir() else "none in the bundle"
    found = plans or ["none in the bundle"]
    return [*(f"TensorRT plan: {plan}" for plan in found), f"GPU kernels: {kernels}"]
