"""A small writer of ONNX graphs: nodes, weights, the few idioms every LFM2 graph needs, files with external data.

Promises: names are stable and in the order of writing, so the same weights give the same bytes. Opset 21 and IR 10, as
the published exports have.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, INT32 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32
EPSILON = 1e-5
# Smaller tensors stay in the graph: shapes and axes have to, and nothing is gained by moving the rest.
EXTERNAL_FROM = 256


class Graph:
    def __init__(self, name: str):
        self.name = name
        self.nodes, self.weights, self.inputs, self.outputs = [], {}, [], []

    def input(self, name: str, kind: int, shape: list) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, kind: int, shape: list) -> None:
        self.outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def constant(self, name: str, value) -> str:
        array = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        if name not in self.weights:
            # order="C" and not ascontiguousarray, which would turn a scalar into a list of one
            self.weights[name] = numpy_helper.from_array(np.array(array, order="C"), name)
        return name

    def ints(self, *values: int) -> str:
        return self.constant("ints_" + "_".join(map(str, values)).replace("-", "m"), np.array(values, np.int64))

    def node(self, kind: str, inputs: list[str], output: str | list[str], domain: str = "", **attributes) -> str:
        outputs = [output] if isinstance(output, str) else output
        self.nodes.append(
            helper.make_node(kind, inputs, outputs, name=outputs[0] + "/" + kind, domain=domain, **attributes)
        )
        return outputs[0]

    def linear(self, x: str, weight: torch.Tensor, name: str, output: str | None = None) -> str:
        return self.node("MatMul", [x, self.constant(name + ".weight", weight.T)], output or name)

    def rms_norm(self, x: str, weight: torch.Tensor, name: str, output: str | None = None) -> str:
        scale = self.constant(name + ".weight", weight)
        return self.node(
            "SimplifiedLayerNormalization", [x, scale], output or name, axis=-1, epsilon=EPSILON, stash_type=1
        )

    def reshape(self, x: str, shape: list[int], output: str) -> str:
        return self.node("Reshape", [x, self.ints(*shape)], output)

    def head_norm(self, x: str, heads: int, size: int, weight: torch.Tensor, name: str) -> str:
        """RMS norm of every head of [B, S, heads * size]."""
        split = self.reshape(x, [0, 0, heads, size], name + "/heads")
        return self.reshape(self.rms_norm(split, weight, name), [0, 0, heads * size], name + "/joined")

    def swiglu(self, x: str, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor, name: str) -> str:
        gated = self.linear(x, gate, name + ".w1")
        gated = self.node("Mul", [gated, self.node("Sigmoid", [gated], name + "/sigmoid")], name + "/silu")
        product = self.node("Mul", [gated, self.linear(x, up, name + ".w3")], name + "/product")
        return self.linear(product, down, name + ".w2")

    def slice(self, x: str, start: int, stop: int, axis: int, output: str) -> str:
        return self.node("Slice", [x, self.ints(start), self.ints(stop), self.ints(axis)], output)

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, list(self.weights.values()))
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="eddy-fixtures")


def rotary_tables(rows: int, head_dim: int, theta: float) -> tuple[np.ndarray, np.ndarray]:
    frequencies = 1.0 / theta ** (torch.arange(0, head_dim, 2).float() / head_dim)
    angles = torch.outer(torch.arange(rows).float(), frequencies)
    return angles.cos().numpy(), angles.sin().numpy()


def save(model: onnx.ModelProto, path: Path, *, pieces=None) -> None:
    """Writes a graph. `pieces` says which data file a weight goes to, by the weight's name; None keeps all inline.

    Graphs may share a data file when all of them want the very same bytes in it. Offsets are aligned to 64 bytes.
    """
    model = onnx.ModelProto.FromString(model.SerializeToString())
    contents: dict[str, bytearray] = {}
    for tensor in model.graph.initializer if pieces else []:
        # Raw bytes as they are: two 4-bit numbers share one, and an array would part them.
        raw = tensor.raw_data or numpy_helper.to_array(tensor).tobytes()
        if len(raw) < EXTERNAL_FROM:
            continue
        location = pieces(tensor.name)
        data = contents.setdefault(location, bytearray())
        data.extend(b"\0" * (-len(data) % 64))
        entries = {"location": location, "offset": str(len(data)), "length": str(len(raw))}
        data.extend(raw)
        for field in ("raw_data", "float_data", "int64_data", "int32_data"):
            tensor.ClearField(field)
        tensor.data_location = TensorProto.EXTERNAL
        del tensor.external_data[:]
        tensor.external_data.extend(onnx.StringStringEntryProto(key=k, value=v) for k, v in entries.items())
    for location, data in contents.items():
        target = path.parent / location
        if target.exists() and target.read_bytes() != bytes(data):
            raise ValueError(f"{target} belongs to another graph and holds other weights")
        target.write_bytes(data)
    path.write_bytes(model.SerializeToString(deterministic=True))


def int4(model: onnx.ModelProto, *, keep: tuple[str, ...] = ()) -> onnx.ModelProto:
    """MatMulNBits instead of MatMul: symmetric, blocks of 32, int8 activations. Nodes named in `keep` stay fp32."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    copy = onnx.ModelProto.FromString(model.SerializeToString())
    quantizer = MatMulNBitsQuantizer(
        copy, bits=4, block_size=32, is_symmetric=True, accuracy_level=4, nodes_to_exclude=list(keep)
    )
    quantizer.process()
    return quantizer.model.model
