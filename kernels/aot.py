"""Build the GPU's kernels ahead of time: ``python -m rdx_fast.kernels.aot FOLDER``.

Writes a cubin a kernel for each architecture, PTX for the baseline (which later drivers compile for
what they find), and ``kernels.json`` with what a launch must know. Needs triton, and no GPU.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from rdx_fast.durable import write_whole
from rdx_fast.errors import MissingDependencyError, RdxError
from rdx_fast.kernels.gpu.driver import OLDEST
from rdx_fast.kernels.gpu.launch import (
    ALIGNMENT,
    ARCHITECTURES,
    BASELINE,
    Variant,
    configuration,
)
from rdx_fast.kernels.gpu.library import BUILT, FORMAT, MANIFEST
from rdx_fast.kernels.gpu.operations import source_hash, variants

# Bytes of stack a thread, where ptxas puts what does not fit into registers.
MAX_SPILLED = 0
# Of the PTX that is built: 8.7 is the oldest that sm_120 has, and that of CUDA OLDEST.
PTX_VERSION = 87


def build(folder: Path, architectures: tuple[int, ...] = ARCHITECTURES, jobs: int = 2) -> Path:
    """Compile every variant into ``folder`` and return the manifest's path.

    Raises ``RuntimeError`` if a kernel spills more than ``MAX_SPILLED`` bytes a thread.
    """
    folder.mkdir(parents=True, exist_ok=True)
    compile_one = partial(_compile, folder, architectures)
    with ProcessPoolExecutor(jobs) as pool:
        kernels = list(pool.map(compile_one, variants()))
    refuse_spills(kernels)
    manifest = {
        "format": FORMAT,
        "triton": version("triton"),
        "source_sha256": source_hash(),
        "kernels": kernels,
    }
    path = folder / MANIFEST
    write_whole(path, (json.dumps(manifest, indent=1) + "\n").encode())
    return path


def refuse_spills(kernels: Sequence[dict[str, Any]]) -> None:
    """Raises ``RuntimeError`` if a kernel spills more than ``MAX_SPILLED`` bytes a thread."""
    spilling = [
        f"{kernel['name']} for sm_{architecture}: {facts['stack_bytes']} bytes"
        for kernel in kernels
        for architecture, facts in kernel["builds"].items()
        if facts["stack_bytes"] > MAX_SPILLED
    ]
    if spilling:
        raise RuntimeError(
            f"kernels spill registers, at most {MAX_SPILLED} bytes a thread are allowed; use "
            f"smaller blocks or more warps: " + "; ".join(spilling)
        )


def _compile(folder: Path, architectures: tuple[int, ...], variant: Variant) -> dict[str, Any]:
    builds = {}
    for architecture in architectures:
        compiled = compile_variant(variant, architecture)
        files = {"cubin": (compiled.asm["cubin"], assembler_version(architecture))}
        if architecture == BASELINE:
            files["ptx"] = (compiled.asm["ptx"].encode(), OLDEST)
        named = {}
        for kind, (content, cuda) in files.items():
            file = folder / f"{variant.name}_sm{architecture}.{kind}"
            # Never in place: versions of a bundle share their files by hard links.
            write_whole(file, content)
            digest = sha256(content).hexdigest()
            named[kind] = {"file": file.name, "sha256": digest, "cuda": cuda}
        builds[str(architecture)] = {
            **named,
            "blocks": configuration(variant.configurations, architecture).blocks,
            "num_warps": compiled.metadata.num_warps,
            "shared_bytes": compiled.metadata.shared,
            **_resources(folder / f"{variant.name}_sm{architecture}.cubin"),
        }
    return {
        "name": variant.name,
        "kernel": variant.kernel,
        "constants": variant.constants,
        "parameters": [
            {"name": name, "type": kind, "aligned": is_aligned(variant, name, kind)}
            for name, kind in variant.parameters
        ],
        # Triton's own scratch, which these kernels do not use: null.
        "hidden_pointers": hidden_pointers(compiled.asm["ptx"], variant),
        "builds": builds,
    }


def compile_variant(variant: Variant, architecture: int) -> Any:
    """Triton's compiled kernel; ``asm`` holds its PTX and cubin."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from rdx_fast.kernels import triton_kernels

    function = getattr(triton_kernels, variant.kernel)
    config = configuration(variant.configurations, architecture)
    constants = {**variant.constants, **config.blocks}
    attributes = {
        (i,): [["tt.divisibility", ALIGNMENT]]
        for i, (name, kind) in enumerate(variant.parameters)
        if is_aligned(variant, name, kind)
    }
    types = dict(variant.parameters)
    signature = {name: types.get(name, "constexpr") for name in function.arg_names}
    compiled = triton.compile(
        ASTSource(function, signature, constants, attributes),
        target=GPUTarget("cuda", architecture, 32),
        options={
            "num_warps": config.num_warps,
            "num_stages": config.num_stages,
            "enable_fp_fusion": True,
            "ptx_version": PTX_VERSION,
        },
    )
    written = re.findall(r"^\.version (\d+)\.(\d+)", compiled.asm["ptx"], re.MULTILINE)
    if written != [tuple(str(PTX_VERSION))]:
        raise RuntimeError(f"{variant.name}: PTX has versions {written}, wanted {PTX_VERSION}")
    scratch = getattr(compiled.metadata, "global_scratch_size", 0)
    if scratch:
        raise RuntimeError(f"{variant.name} wants {scratch} bytes of Triton's scratch memory")
    return compiled


def assembler_version(architecture: int) -> int:
    """CUDA version of the assembler that Triton calls for an architecture, as the assembler states
    it: 13010 for 13.1."""
    from triton.backends.nvidia.compiler import get_ptxas

    major, minor = map(int, get_ptxas(architecture).version.split("."))
    return 1000 * major + 10 * minor


def is_aligned(variant: Variant, name: str, kind: str) -> bool:
    """Whether a parameter points to a multiple of ``ALIGNMENT``."""
    return kind.startswith("*") and name not in variant.unaligned


def hidden_pointers(ptx: str, variant: Variant) -> int:
    """How many parameters Triton adds to the kernel's own."""
    found = ptx_parameters(ptx)
    own = len(variant.parameters)
    wanted = [_ptx_size(kind) for _, kind in variant.parameters] + [8] * (len(found) - own)
    if found != wanted:
        raise RuntimeError(f"{variant.name}: PTX has parameters of {found} bytes, wanted {wanted}")
    return len(found) - own


def ptx_parameters(ptx: str) -> list[int]:
    """Sizes in bytes of the entry's parameters, in order."""
    return [int(bits) // 8 for bits in re.findall(r"^\s*\.param \.[a-z](\d+)", ptx, re.MULTILINE)]


def _ptx_size(kind: str) -> int:
    return 8 if kind.startswith("*") or kind == "i64" else 4


def _resources(cubin: Path) -> dict[str, int]:
    """Registers and stack of a thread, as NVIDIA's cuobjdump (in Triton's wheel) reads them."""
    import triton.backends.nvidia

    (tools,) = triton.backends.nvidia.__path__
    command = [f"{tools}/bin/cuobjdump", "--dump-resource-usage", str(cubin)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (found,) = re.findall(r"REG:(\d+) STACK:(\d+)", text)
    return {"registers": int(found[0]), "stack_bytes": int(found[1])}


def main(
    folder: Annotated[
        Path, typer.Argument(help="Where the kernels and kernels.json go; else: this package.")
    ] = BUILT,
    jobs: Annotated[int, typer.Option(min=1, help="Compilers side by side.")] = 2,
) -> None:
    """Build every kernel for every architecture."""
    if find_spec("triton") is None:
        raise MissingDependencyError("triton", "building the GPU's kernels", "kernels")
    path = build(folder, jobs=jobs)
    kernels = json.loads(path.read_text())["kernels"]
    count = sum(len(kernel["builds"]) for kernel in kernels)
    names = ", ".join(map(str, ARCHITECTURES))
    print(f"{path}: {len(kernels)} kernels, {count} cubins for sm {names}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except (RdxError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from error
