"""What the operations' files are made of: arrays, launches, block sizes, variants.

The same for kernels that Triton runs and for those built ahead of time. An array is anything with
``shape``, ``dtype`` and ``stride()`` in elements, such as a torch tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

ARCHITECTURES = (80, 86, 89, 90, 100, 120)  # compute capabilities that cubins are built for
BASELINE = 80  # whose PTX every later driver can compile
MAX_SCALES = 3
ALIGNMENT = 16  # bytes, of pointers, so that loads are as wide as they get
# Triton's names of what arrays hold.
ELEMENTS = {
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "uint8": "u8",
    "uint16": "u16",
    "uint32": "u32",
    "int32": "i32",
    "int64": "i64",
}
# Parameters of a kernel that reads distance maps; see ``distance_arguments``.
DISTANCE_PARAMETERS = tuple(
    pair
    for s in range(MAX_SCALES)
    for pair in ((f"d{s}", "*fp32"), (f"h{s}", "i32"), (f"w{s}", "i32"))
)


class Array(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> Any: ...
    def stride(self) -> tuple[int, ...]: ...
    def data_ptr(self) -> int: ...
    def unsqueeze(self, dim: int) -> Array: ...
    def narrow(self, dim: int, start: int, length: int) -> Array: ...


class Configuration(NamedTuple):
    """Block sizes of a kernel. Chosen once, in its operation's file: nothing is tuned live.

    Attributes:
        blocks: the kernel's constants that are free to choose, by name
        num_warps: warps of a block
        num_stages: stages of software pipelining, of loops with ``tl.dot``; Triton leaves all
            others as they are, unless the loop names its own (see ``cosine_map``)
    """

    blocks: dict[str, int]
    num_warps: int
    num_stages: int = 2


# By architecture: the baseline's, and those of others that want another. All were chosen by
# reasoning. On 9.0 they were timed, without trying others.
Configurations = dict[int, Configuration]


def configuration(configurations: Configurations, architecture: int) -> Configuration:
    """For a compute capability (90 for 9.0); one without its own takes the baseline's."""
    return configurations.get(architecture, configurations[BASELINE])


class Launch(NamedTuple):
    """One call of a kernel.

    Attributes:
        kernel: name of the function
        grid: number of blocks along both axes
        arguments: those that are no constants, in the function's order
        constants: block sizes and others, by name
        num_warps: warps of a block
        num_stages: see ``Configuration``
    """

    kernel: str
    grid: tuple[int, int]
    arguments: tuple[Any, ...]
    constants: dict[str, int]
    num_warps: int
    num_stages: int

    @classmethod
    def of(
        cls,
        kernel: str,
        grid: tuple[int, int],
        arguments: Sequence[Any],
        config: Configuration,
        own: Mapping[str, int] = MappingProxyType({}),
    ) -> Launch:
        """``own``: constants besides the block sizes."""
        constants = {**own, **config.blocks}
        return cls(kernel, grid, tuple(arguments), constants, config.num_warps, config.num_stages)


class Variant(NamedTuple):
    """A kernel with its types and constants fixed, to be built ahead of time.

    Attributes:
        kernel: name of the function
        parameters: name and Triton type of each, in order
        constants: by name, without block sizes
        configurations: block sizes by architecture
        element: the type that differs among a kernel's variants, if one does
        unaligned: names of pointers that need not be multiples of ``ALIGNMENT``
    """

    kernel: str
    parameters: tuple[tuple[str, str], ...]
    constants: dict[str, int]
    configurations: Configurations
    element: str = ""
    unaligned: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Unique among the variants, and fit for a file."""
        parts = [self.kernel, *([self.element] if self.element else [])]
        parts += [f"{name.lower()}{value}" for name, value in self.constants.items()]
        return "_".join(parts)


def dtype_name(array: Array) -> str:
    return str(array.dtype).rpartition(".")[2]


def aligned(size: int) -> int:
    """Bytes with which the next array in a block begins at a multiple of ``ALIGNMENT``."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def check_scales(count: int) -> None:
    """Raises ``ValueError`` unless this many scales go in one launch."""
    if not 1 <= count <= MAX_SCALES:
        raise ValueError(f"{count} scales, the GPU's kernels take 1 to {MAX_SCALES}")


def distance_arguments(distances: Sequence[Array]) -> list[Any]:
    """``d, h, w`` of each scale, absent ones with size 0."""
    present = [x for d in distances for x in (d, *d.shape[1:])]
    return present + [distances[0], 0, 0] * (MAX_SCALES - len(distances))
