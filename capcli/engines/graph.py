"""An ONNX graph that is put together here, and whose weights stay outside of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

# Old enough for every version of ONNX Runtime that is allowed, so that a newer `onnx` makes the same graphs.
OPSET, IR_VERSION = 17, 8
FLOAT, UINT8, INT64 = 1, 2, 7  # of TensorProto.DataType
Tensors = Mapping[str, np.ndarray]  # of a checkpoint, float32, by their names in model.safetensors
Make = Callable[[Tensors], np.ndarray]


class NoGraph(ValueError):
    """A part of a model that only PyTorch can run."""


class Node(NamedTuple):
    """Describe a node: its operator, the names of its inputs and outputs, and its attributes."""

    kind: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    attributes: Mapping[str, Any]


class Weight(NamedTuple):
    """Describe a value that is made of a checkpoint's tensors."""

    shape: Sequence[int]
    make: Make


class Graph:
    """Nodes in the order in which they run; values go by names that are made up here.

    tensors: the checkpoint's tensors that the graph uses, and their shapes.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, tuple[int, ...]] = {}
        self.weights: dict[str, Weight] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.nodes: list[Node] = []
        self.inputs: dict[str, tuple[int, Sequence[int | str]]] = {}
        self.outputs: dict[str, tuple[int, Sequence[int | str]]] = {}

    def input(self, name: str, kind: int, *shape: int | str) -> str:
        """Declare an input, in the order of the calls.

        kind: FLOAT, UINT8 or INT64.
        shape: a name stands for any size.
        """
        self.inputs[name] = kind, shape
        return name

    def output(self, name: str, value: str, *shape: int | str) -> None:
        """Declare an output of floats, in the order of the calls. shape: a name stands for any size."""
        self.nodes.append(Node("Identity", [value], [name], {}))
        self.outputs[name] = FLOAT, shape

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output, and return that."""
        return self.split(kind, *inputs, outputs=1, **attributes)[0]

    def split(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> Sequence[str]:
        """Append a node, and return its outputs."""
        names = [f"{kind}{len(self.nodes)}.{index}" for index in range(outputs)]
        self.nodes.append(Node(kind, inputs, names, attributes))
        return names

    def constant(self, value: Any, kind: Any = np.float32) -> str:
        """Return a value that is part of the graph: a number, a list or an array."""
        name = f"constant{len(self.constants)}"
        self.constants[name] = np.asarray(value, kind)
        return name

    def tensor(self, name: str, *shape: int) -> str:
        """Return one of the checkpoint's tensors."""
        return self.weight(name, shape, {name: shape}, lambda tensors: tensors[name])

    def weight(self, name: str, shape: Sequence[int], of: Mapping[str, tuple[int, ...]], make: Make) -> str:
        """Return a value that is made of the checkpoint's tensors. of: their names and shapes."""
        self.tensors.update(of)
        self.weights[name] = Weight(shape, make)
        return name

    def linear(self, x: str, name: str, outputs: int, inputs: int, bias: bool = True, factor: float = 1.0) -> str:
        """Append a fully connected layer over (rows, inputs), as torch.nn.Linear stores it, times a factor."""
        parts = {f"{name}.weight": (outputs, inputs)} | ({f"{name}.bias": (outputs,)} if bias else {})
        return self.add("Gemm", x, *(self.scaled(part, shape, factor) for part, shape in parts.items()), transB=1)

    def scaled(self, name: str, shape: tuple[int, ...], factor: float) -> str:
        """Return one of the checkpoint's tensors times a factor."""
        if factor == 1:
            return self.tensor(name, *shape)
        return self.weight(f"{name}×{factor:g}", shape, {name: shape}, lambda tensors: tensors[name] * factor)

    def reshape(self, x: str, *shape: int) -> str:
        """Append a change of shape; −1 is what is left, 0 the size that x has there."""
        return self.add("Reshape", x, self.constant(shape, np.int64))

    def as_bytes(self, tensors: Tensors | None = None) -> bytes:
        """Return the graph as ONNX. tensors: the checkpoint's, for a graph that holds its weights; None leaves them
        out."""
        from onnx import TensorProto, helper, numpy_helper  # late: it takes its time, which others can use

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
        """Return the weights by their names in the graph, made of the checkpoint's tensors."""
        return {name: np.ascontiguousarray(w.make(tensors), np.float32) for name, w in self.weights.items()}
