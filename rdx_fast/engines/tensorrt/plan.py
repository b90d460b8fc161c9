"""Plan files in the bundle, identified by what they were built from and for."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rdx_fast.bundle.manifest import Manifest, execution_label
from rdx_fast.bundle.signature import PublicKey
from rdx_fast.engines.tensorrt.api import Api
from rdx_fast.kernels.gpu.driver import Gpu
from rdx_fast.precision import FASTEST_FIRST

FOLDER = "plans"  # inside the bundle
_MAGIC = b"rdx_fast plan 1\n"


@dataclass(frozen=True, slots=True)
class PlanKey:
    """Everything that decides whether a plan can be used.

    Attributes:
        network: SHA-256 of the ONNX file, hexadecimal
        runtime: name and version of the TensorRT package
        gpu: name of the GPU that the plan was tuned on, "any" if it does not matter
        driver: version of the driver that the plan was tuned with, "any" if it does not matter
        compute_capability: of the GPU, 90 for 9.0
        profiles: see ``GpuOptions``
        workspace_mb: MB of GPU memory that the builder may use
        optimization_level: of the builder
        half_format: memory format of inputs and outputs in float16, by its name in TensorRT; those
            in float32 are "LINEAR"
        recipe: version of how plans are built, ``build.RECIPE``
    """

    network: str
    runtime: str
    gpu: str
    driver: str
    compute_capability: int
    profiles: tuple[tuple[int, int, int], ...]
    workspace_mb: int
    optimization_level: int
    half_format: str
    recipe: int

    @property
    def digest(self) -> str:
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    @property
    def max_batch(self) -> int:
        return self.profiles[-1][-1]

    def file(self, bundle: Path, suffix: str = "plan") -> Path:
        return bundle / FOLDER / f"{self.digest}.{suffix}"

    def differs_in_options(self, other: PlanKey) -> bool:
        """Whether nothing but what ``GpuOptions`` choose differs: profiles, workspace and level."""
        same_options = replace(
            self,
            profiles=other.profiles,
            workspace_mb=other.workspace_mb,
            optimization_level=other.optimization_level,
        )
        return same_options == other


@dataclass(frozen=True, slots=True)
class Target:
    """A GPU to build plans for.

    Attributes:
        gpu: as in ``PlanKey``
        driver: as in ``PlanKey``
        compute_capability: as in ``PlanKey``
    """

    gpu: str
    driver: str
    compute_capability: int

    @classmethod
    def of(cls, gpu: Gpu, api: Api) -> Target:
        if api.rtx:
            return cls.of_capability(gpu.architecture)
        return cls(gpu.name, gpu.driver, gpu.architecture)

    @classmethod
    def of_capability(cls, compute_capability: int) -> Target:
        """Any GPU of a compute capability with any driver; only TensorRT for RTX builds such plans,
        and it needs no GPU to do so."""
        return cls("any", "any", compute_capability)


def save_plan(path: Path, key: PlanKey, plan: Any) -> None:
    """Write ``plan`` (bytes-like) with its key and checksum."""
    body = memoryview(plan)
    header = {"key": asdict(key), "sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body)}
    write_whole(path, _MAGIC + json.dumps(header).encode() + b"\n", body)


def write_whole(path: Path, *parts: Any) -> None:
    """Write a file atomically: it is flushed to disk before it gets its name."""
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as stream:
        try:
            for part in parts:
                stream.write(part)
            stream.flush()
            os.fsync(stream.fileno())
            os.chmod(stream.name, 0o644)  # temporary files are readable by their owner only
            os.replace(stream.name, path)
        except BaseException:
            os.unlink(stream.name)
            raise


def load_plan(path: Path, key: PlanKey, public_key: PublicKey | None = None) -> bytes | None:
    """The plan, or None if the file is missing, damaged or has another key.

    Raises ``BundleError`` if the file is there and not signed by ``public_key``.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if public_key is not None:
        public_key.check_made(path, content)
    try:
        magic, stated, body = content.split(b"\n", 2)
        header = json.loads(stated)
    except ValueError:
        return None
    if magic + b"\n" != _MAGIC:
        return None
    wanted = {
        "key": json.loads(json.dumps(asdict(key))),
        "sha256": hashlib.sha256(body).hexdigest(),
        "bytes": len(body),
    }
    return body if header == wanted else None


def describe_plan(key: PlanKey, bundle: Path, manifest: Manifest) -> str:
    """A stored plan on one line: its precision, GPU, batches, TensorRT and size.

    Args:
        key: of the plan
        bundle: folder of the bundle
        manifest: of the bundle
    """
    labels = {
        manifest.files[manifest.networks[o.stored]].sha256: execution_label(o.stored, o.executed)
        for o in FASTEST_FIRST["tensorrt"]
        if o.stored in manifest.networks
    }
    precision = labels.get(key.network, "a network that is not in the bundle")
    for_any = key.gpu == "any"
    capability = f"compute capability {key.compute_capability / 10:.1f}"
    gpu = f"any GPU of {capability}" if for_any else f"{key.gpu} ({capability}, {key.driver})"
    level = "" if for_any else f", optimization level {key.optimization_level}"
    return (
        f"{precision} for {gpu}, batches to {key.max_batch}{level}, {key.runtime}, "
        f"{key.file(bundle).stat().st_size / 1e6:.0f} MB"
    )


def stored_keys(bundle: Path) -> list[PlanKey]:
    """Keys of a bundle's intact plans, the one built last first.

    Args:
        bundle: folder of the bundle
    """
    return [key for key in stated_keys(bundle) if load_plan(key.file(bundle), key) is not None]


def stated_keys(bundle: Path) -> Iterator[PlanKey]:
    """The same of all plans, whether they are intact or not."""
    files = sorted(
        (bundle / FOLDER).glob("*.plan"), key=lambda file: file.stat().st_mtime_ns, reverse=True
    )
    for file in files:
        key = _stated_key(file)
        if key is not None and key.file(bundle) == file:
            yield key


def _stated_key(file: Path) -> PlanKey | None:
    """The key that a plan's file states, None if it states none of this version."""
    try:
        with file.open("rb") as stream:
            if stream.readline() != _MAGIC:
                return None
            stated = json.loads(stream.readline())["key"]
        profiles = tuple(map(tuple, stated["profiles"]))
        return PlanKey(**{**stated, "profiles": profiles})
    except (OSError, ValueError, TypeError, KeyError):
        return None
