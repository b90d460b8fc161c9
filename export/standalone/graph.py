"""Building an ONNX graph node by node."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper


class GraphBuilder:
    """Nodes and constants, in the order in which they are added.

    Attributes:
        nodes: each has one output, and the name of it
        constants: of the nodes
    """

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(
        self, operator: str, output: str, *inputs: str | NDArray[np.generic], **attributes: Any
    ) -> str:
        """Add a node and return the name of its output.

        Args:
            operator: of ONNX's own domain
            output: name of the output
            inputs: names, or arrays, which become constants
            attributes: of the operator
        """
        names = []
        for position, given in enumerate(inputs):
            if isinstance(given, str):
                names.append(given)
                continue
            name = f"{output}/constant_{position}"
            self.constants.append(numpy_helper.from_array(np.ascontiguousarray(given), name))
            names.append(name)
        self.nodes.append(helper.make_node(operator, names, [output], output, **attributes))
        return output


def axes(*numbers: int) -> NDArray[np.int64]:
    """Axes or sizes, as operators take them."""
    return np.array(numbers, np.int64)


def scalar(value: float) -> NDArray[np.float32]:
    return np.array(value, np.float32)
