"""Loading state dicts of the published implementations into our networks."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from rdx_fast.errors import WeightsError
from rdx_fast.models.methods import make_network
from rdx_fast.models.rd4ad import ReverseDistillation
from rdx_fast.models.weights import is_state, misfits

# Where the keys of each published part are in our network: (published prefix, our prefix).
_PREFIXES = {
    "rd4ad": {
        "encoder": [("", "teacher.")],
        "bn": [("", "bottleneck.")],
        "decoder": [("", "student.")],
    },
    "rd-expert": {
        "teacher": [("encoder.", "teacher.")],
        "student": [
            ("bn.", "bottleneck."),
            *(
                (f"{theirs}.{scale}.", f"student.injections.{scale}.{ours}.")
                for scale in (0, 1)
                for theirs, ours in (
                    ("conv1x1_downsample_dim", "finer"),
                    ("fuse_encoder", "merge"),
                    ("conv3x3_simattn", "gate"),
                    ("fuse_skip", "skip"),
                )
            ),
            ("decoder.", "student."),
        ],
    },
}
# Keys in published files that the path from image to features does not use: in all networks, and by
# injection.
_UNUSED = {
    "encoder": ("layer4.", "fc."),
    "bn": ("conv4.", "bn4."),
    "teacher": ("encoder.layer4.", "encoder.fc."),
    "student": ("bn.conv4.", "bn.bn4."),
}
_INJECTION = ("conv1x1_downsample_dim.", "fuse_encoder.", "conv3x3_simattn.", "fuse_skip.")
_UNUSED_BY_INJECTION = {"guided": (), "plain": ("conv3x3_simattn.",), "none": _INJECTION}


def from_published(
    parts: Mapping[str, Mapping[str, Tensor]],
    method: str = "rd4ad",
    *,
    backbone: str = "wide_resnet50_2",
    injection: str = "guided",
) -> ReverseDistillation:
    """Create a network with weights trained with the authors' implementations.

    Args:
        parts: state dicts by their published names: for "rd4ad" ``encoder`` (torchvision's key
            names), ``bn`` and ``decoder``, for "rd-expert" ``teacher`` and ``student``
        method: "rd4ad" or "rd-expert"
        backbone: a key of ``BACKBONES``
        injection: as the checkpoint was trained; the authors' script trains "plain"

    Returns:
        the network in evaluation mode. Called with ``[B, 3, H, W]`` float normalised, it returns
        ``Features``: lists ``teacher`` and ``student`` of three maps each, finest first

    Raises:
        WeightsError: the state dicts do not fit; the message lists every missing, unknown and
            misshapen key
        ValueError: unknown method, backbone or injection
    """
    network = make_network(method, backbone, injection)
    prefixes = _PREFIXES[method]
    if set(parts) != set(prefixes) or not all(is_state(part) for part in parts.values()):
        given = ", ".join(parts) or "nothing"
        raise WeightsError(
            f"{method} wants the state dicts {', '.join(prefixes)}; given: {given}"
            + ("" if set(parts) != set(prefixes) else ", and not all are dicts of tensors")
        )
    given_state: dict[str, Tensor] = {}
    for part, state in parts.items():
        unused = _UNUSED.get(part, ())
        if part == "student":
            unused = (*unused, *_UNUSED_BY_INJECTION[injection])
        given_state |= {f"{part}.{k}": v for k, v in state.items() if not k.startswith(unused)}
    own = network.state_dict()
    published = {_published_name(key, method): key for key in own}
    if problems := misfits(given_state, {theirs: own[ours] for theirs, ours in published.items()}):
        raise WeightsError(
            f"the state dicts do not fit {method} with {backbone}"
            + (f" and injection {injection}" if method == "rd-expert" else "")
            + f"; keys {problems}"
        )
    network.load_state_dict({published[k]: v for k, v in given_state.items()}, strict=False)
    return network.eval()


def _published_name(key: str, method: str) -> str:
    """``part.key`` in the authors' state dicts for a key of our network."""
    for part, prefixes in _PREFIXES[method].items():
        for theirs, ours in prefixes:
            if key.startswith(ours):
                return f"{part}.{theirs}{key.removeprefix(ours)}"
    raise AssertionError(f"{key} has no published name")
