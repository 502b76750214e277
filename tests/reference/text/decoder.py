"""The graph of layout A's text models: ids and caches in, logits and caches out.

Convolution caches are 3 columns wide and named `past_conv.N`. The earliest exports rotate queries and keys outside of
the attention node, from an input `position_ids`; later ones leave it to the node.
"""

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import matmul_nbits_quantizer as nbits
from onnxruntime.transformers.float16 import convert_float_to_float16

from speech.backbone import CACHE, short_conv
from speech.graph import FLOAT, INT32, INT64, Graph, rotary_tables
from speech.shapes import HEAD_DIM, VOCAB

from .shapes import CONTEXT, Shape

ROUTER_FLOOR = 1e-6  # what transformers adds before it divides by the sum of the chosen scores


def attention(g: Graph, layer, x: str, shape: Shape, lengths: list[str], cache: list[str], present: list[str], name: str, positions: str | None) -> str:
    q, k, v = (g.linear(x, getattr(layer, f"{p}_proj").weight, f"{name}.{p}_proj") for p in "qkv")
    q = g.head_norm(q, shape.heads, HEAD_DIM, layer.q_layernorm.weight, name + ".q_layernorm")
    k = g.head_norm(k, shape.kv_heads, HEAD_DIM, layer.k_layernorm.weight, name + ".k_layernorm")
    tables = ["cos_cache", "sin_cache"]
    if positions:
        turn = lambda rows, heads, part: g.node(  # noqa: E731
            "RotaryEmbedding",
            [rows, positions, *tables],
            f"{name}/{part}_turned",
            domain="com.microsoft",
            num_heads=heads,
            rotary_embedding_dim=HEAD_DIM,
            interleaved=0,
        )
        q, k, tables = turn(q, shape.heads, "q"), turn(k, shape.kv_heads, "k"), []
    out = g.node(
        "GroupQueryAttention",
        [q, k, v, *cache, *lengths, *tables],
        [name + "/attention", *present],
        domain="com.microsoft",
        num_heads=shape.heads,
        kv_num_heads=shape.kv_heads,
        do_rotary=0 if positions else 1,
        rotary_interleaved=0,
        scale=HEAD_DIM**-0.5,
    )
    return g.linear(out, layer.out_proj.weight, name + ".out_proj")


def mixture(g: Graph, block, x: str, shape: Shape, name: str) -> str:
    """Every expert computes, and the router's weights, zero for those not chosen, mix them: exact, and any runtime has
    the operators."""
    scores = g.node("Sigmoid", [g.linear(x, block.gate.weight, name + ".gate")], name + "/scores")
    biased = g.node("Add", [scores, g.constant(name + ".expert_bias", block.expert_bias)], name + "/biased")
    chosen = name + "/chosen"
    g.node("TopK", [biased, g.ints(shape.experts_per_token)], [name + "/best", chosen], axis=-1)
    kept = g.node("GatherElements", [scores, chosen], name + "/kept", axis=-1)
    total = g.node("ReduceSum", [kept, g.ints(-1)], name + "/total", keepdims=1)
    floor = g.constant("router_floor", np.float32(ROUTER_FLOOR))
    share = g.node("Div", [kept, g.node("Add", [total, floor], name + "/floored")], name + "/share")
    nothing = g.node("Sub", [scores, scores], name + "/nothing")
    shares = g.node("ScatterElements", [nothing, chosen, share], name + "/shares", axis=-1)
    mixed = None
    for i in range(shape.experts):
        gate, up = block.experts.gate_up_proj[i].chunk(2)
        out = g.swiglu(x, gate, up, block.experts.down_proj[i], f"{name}.experts.{i}")
        part = g.node("Mul", [out, g.slice(shares, i, i + 1, 2, f"{name}/share_{i}")], f"{name}/part_{i}")
        mixed = part if mixed is None else g.node("Add", [mixed, part], f"{name}/mixed_{i}")
    return mixed


def build(shape: Shape, model, *, with_positions: bool = False) -> onnx.ModelProto:
    g, hidden = Graph("model"), shape.hidden
    ids = g.input("input_ids", INT64, ["batch_size", "sequence_length"])
    mask = g.input("attention_mask", INT64, ["batch_size", "total_sequence_length"])
    positions = g.input("position_ids", INT64, ["batch_size", "sequence_length"]) if with_positions else None

    real = g.node("ReduceSum", [mask, g.ints(1)], "mask/real", keepdims=0)
    last = g.node("Sub", [real, g.constant("one", np.int64(1))], "mask/last")
    seqlens = g.node("Cast", [last], "mask/seqlens_k", to=INT32)
    width = g.node("Gather", [g.node("Shape", [mask], "mask/shape"), g.constant("axis_1", np.int64(1))], "mask/width")
    lengths = [seqlens, g.node("Cast", [width], "mask/total", to=INT32)]
    cos, sin = rotary_tables(CONTEXT, HEAD_DIM, 1e6)
    g.constant("cos_cache", cos), g.constant("sin_cache", sin)

    table = g.constant("embed_tokens.weight", model.model.embed_tokens.weight)
    x = g.node("Gather", [table, ids], EMBEDDING, axis=0)
    presents = []
    for i, layer in enumerate(model.model.layers):
        name = f"layers.{i}"
        normed = g.rms_norm(x, layer.operator_norm.weight, name + ".operator_norm")
        if shape.layer_types[i] == "conv":
            past = g.input(f"past_conv.{i}", FLOAT, ["batch_size", hidden, CACHE])
            presents.append((f"present_conv.{i}", ["batch_size", hidden, CACHE]))
            mixed = short_conv(g, layer.conv, normed, hidden, past, f"present_conv.{i}", name + ".conv")
        else:
            sizes = ["batch_size", shape.kv_heads, "past_sequence_length", HEAD_DIM]
            caches = [g.input(f"past_key_values.{i}.{part}", FLOAT, sizes) for part in ("key", "value")]
            outputs = [f"present.{i}.{part}" for part in ("key", "value")]
            presents += [(o, ["batch_size", shape.kv_heads, "total_sequence_length", HEAD_DIM]) for o in outputs]
            name_ = name + ".self_attn"
            mixed = attention(g, layer.self_attn, normed, shape, lengths, caches, outputs, name_, positions)
        x = g.node("Add", [x, mixed], name + "/after_operator")
        normed = g.rms_norm(x, layer.ffn_norm.weight, name + ".ffn_norm")
        block, forward = layer.feed_forward, name + ".feed_forward"
        if hasattr(block, "experts"):
            fed = mixture(g, block, normed, shape, forward)
        else:
            fed = g.swiglu(normed, block.w1.weight, block.w3.weight, block.w2.weight, forward)
        x = g.node("Add", [x, fed], name + "/after_feed_forward")
    x = g.rms_norm(x, model.model.embedding_norm.weight, "embedding_norm")
    # The head is the embedding table: a transpose instead of a second copy of it.
    g.node("MatMul", [x, g.node("Transpose", [table], "lm_head", perm=[1, 0])], "logits")

    g.output("logits", FLOAT, ["batch_size", "sequence_length", VOCAB])
    for output, sizes in presents:
        g.output(output, FLOAT, sizes)
    return g.model()


EMBEDDING = "embed_tokens"


def half(model: onnx.ModelProto, *, logits: bool = False) -> onnx.ModelProto:
    """16-bit weights and caches; logits stay 32-bit unless asked for."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    return convert_float_to_float16(copy, keep_io_types=[] if logits else ["logits"], disable_shape_infer=True)


def quantised(model: onnx.ModelProto, bits: int, *, table: bool = True) -> onnx.ModelProto:
    """MatMulNBits in the layers and the head; with 4 bits GatherBlockQuantized for the embedding, unless its `table` is
    to stay. Routers stay fp32."""
    copy = untied(model)
    kinds = ("MatMul", "Gather") if bits == 4 and table else ("MatMul",)
    config = nbits.DefaultWeightOnlyQuantConfig(
        block_size=32, is_symmetric=True, accuracy_level=4, bits=bits, op_types_to_quantize=kinds
    )
    kept = [node.name for node in copy.graph.node if ".gate/" in node.name]
    quantizer = nbits.MatMulNBitsQuantizer(copy, algo_config=config, nodes_to_exclude=kept)
    quantizer.process()
    return quantizer.model.model


def untied(model: onnx.ModelProto) -> onnx.ModelProto:
    """The head as a weight of its own, which is what the quantiser sees."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    table = next(t for t in copy.graph.initializer if t.name == "embed_tokens.weight")
    head = np.ascontiguousarray(numpy_helper.to_array(table).T)
    copy.graph.initializer.append(numpy_helper.from_array(head, "lm_head.weight"))
    nodes = [node for node in copy.graph.node if node.output[0] != "lm_head"]
    for node in nodes:
        if node.output[0] == "logits":
            node.input[1] = "lm_head.weight"
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy
