"""ONNX graphs built here, with weights kept outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

# Old enough for all allowed versions of ONNX Runtime, so that a newer `onnx` makes the same graphs.
OPSET, IR_VERSION = 17, 8
FLOAT, UINT8, INT64 = 1, 2, 7  # of TensorProto.DataType
Tensors = Mapping[str, np.ndarray]  # of a checkpoint, float32, by their names in model.safetensors
Make = Callable[[Tensors], np.ndarray]


class NoGraph(ValueError):
    """Report a part of a model that only PyTorch can run."""


class Node(NamedTuple):
    """Describe a node: operator, names of inputs and outputs, attributes."""

    kind: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    attributes: Mapping[str, Any]


class Weight(NamedTuple):
    """Describe a value made of a checkpoint's tensors."""

    shape: Sequence[int]
    make: Make


class Graph:
    """Collect nodes in running order; values have names made up here.

    tensors: names and shapes of the checkpoint's tensors in use.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, tuple[int, ...]] = {}
        self.weights: dict[str, Weight] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.nodes: list[Node] = []
        self.inputs: dict[str, tuple[int, Sequence[int | str]]] = {}
        self.outputs: dict[str, tuple[int, Sequence[int | str]]] = {}

    def input(self, name: str, kind: int, *shape: int | str) -> str:
        """Declare the next input.

        kind: FLOAT, UINT8 or INT64.
        shape: a name stands for any size.
        """
        self.inputs[name] = kind, shape
        return name

    def output(self, name: str, value: str, *shape: int | str) -> None:
        """Declare the next output, of floats. shape: a name stands for any size."""
        self.nodes.append(Node("Identity", [value], [name], {}))
        self.outputs[name] = FLOAT, shape

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output, and return it."""
        return self.split(kind, *inputs, outputs=1, **attributes)[0]

    def split(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> Sequence[str]:
        """Append a node, and return its outputs."""
        names = [f"{kind}{len(self.nodes)}.{index}" for index in range(outputs)]
        self.nodes.append(Node(kind, inputs, names, attributes))
        return names

    def constant(self, value: Any, kind: Any = np.float32) -> str:
        """Return a constant: a number, list or array."""
        name = f"constant{len(self.constants)}"
        self.constants[name] = np.asarray(value, kind)
        return name

    def tensor(self, name: str, *shape: int) -> str:
        """Return a tensor of the checkpoint."""
        return self.weight(name, shape, {name: shape}, lambda tensors: tensors[name])

    def weight(self, name: str, shape: Sequence[int], of: Mapping[str, tuple[int, ...]], make: Make) -> str:
        """Return a value made of the checkpoint's tensors. of: their names and shapes."""
        self.tensors.update(of)
        self.weights[name] = Weight(shape, make)
        return name

    def linear(self, x: str, name: str, outputs: int, inputs: int, bias: bool = True, factor: float = 1.0) -> str:
        """Append a linear layer over (rows, inputs), stored as in torch.nn.Linear, times a factor."""
        parts = {f"{name}.weight": (outputs, inputs)} | ({f"{name}.bias": (outputs,)} if bias else {})
        return self.add("Gemm", x, *(self.scaled(part, shape, factor) for part, shape in parts.items()), transB=1)

    def scaled(self, name: str, shape: tuple[int, ...], factor: float) -> str:
        """Return a tensor of the checkpoint times a factor."""
        if factor == 1:
            return self.tensor(name, *shape)
        return self.weight(f"{name}×{factor:g}", shape, {name: shape}, lambda tensors: tensors[name] * factor)

    def reshape(self, x: str, *shape: int) -> str:
        """Append a reshape; −1 is what is left, 0 keeps x's size."""
        return self.add("Reshape", x, self.constant(shape, np.int64))

    def as_bytes(self, tensors: Tensors | None = None) -> bytes:
        """Return the graph as ONNX. tensors: the checkpoint's, to be stored in it; None leaves them out."""
        from onnx import TensorProto, helper, numpy_helper  # late: it is slow, and others can use the time

        inside = self.constants if tensors is None else self.constants | self.values(tensors)
        initializers = [numpy_helper.from_array(value, name) for name, value in inside.items()]
        for name, weight in self.weights.items() if tensors is None else ():
            outside = TensorProto(name=name, data_type=FLOAT, dims=weight.shape, data_location=TensorProto.EXTERNAL)
            outside.external_data.add(key="location", value="model.safetensors")
            initializers.append(outside)
        graph = helper.make_graph(
            [helper.make_node(n.kind, n.inputs, n.outputs, **n.attributes) for n in self.nodes],
            "capcli",
            [helper.make_tensor_value_info(name, *declared) for name, declared in self.inputs.items()],
            [helper.make_tensor_value_info(name, *declared) for name, declared in self.outputs.items()],
            initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        return model.SerializeToString()

    def values(self, tensors: Tensors) -> dict[str, np.ndarray]:
        """Return weights by name, made of the checkpoint's tensors."""
        return {name: np.ascontiguousarray(w.make(tensors), np.float32) for name, w in self.weights.items()}
