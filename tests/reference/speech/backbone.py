"""The decoder graph of layout A: embeddings and caches in, logits, hidden states and caches out.

Convolution caches are 3 columns wide and named `past_conv.N`, keys and values `past_key_values.N.key/value`, in layer
order; no position ids; `hidden_states` comes last and is what the logits are projected from.
"""

import numpy as np
import onnx

from .graph import FLOAT, INT32, INT64, Graph, rotary_tables
from .shapes import HEAD_DIM, VOCAB, Shape

CACHE = 3


def short_conv(g: Graph, layer, x: str, hidden: int, past: str, present: str, name: str) -> str:
    projected = g.linear(x, layer.in_proj.weight, name + ".in_proj")
    channels = g.node("Transpose", [projected], name + "/channels", perm=[0, 2, 1])
    b, c, inner = name + "/b", name + "/c", name + "/x"
    g.node("Split", [channels], [b, c, inner], axis=1, num_outputs=3)
    gated = g.node("Mul", [b, inner], name + "/bx")
    joined = g.node("Concat", [past, gated], name + "/joined", axis=2)
    g.slice(joined, -CACHE, 2**31 - 1, 2, present)
    # A kernel of 3 looks at two columns of the past; the oldest of the three is carried and never read.
    window = g.slice(joined, 1, 2**31 - 1, 2, name + "/window")
    weight = g.constant(name + ".conv.weight", layer.conv.weight)
    mixed = g.node("Conv", [window, weight], name + "/conv", group=hidden, kernel_shape=[3], pads=[0, 0])
    out = g.node("Transpose", [g.node("Mul", [c, mixed], name + "/cy")], name + "/rows", perm=[0, 2, 1])
    return g.linear(out, layer.out_proj.weight, name + ".out_proj")


def attention(
    g: Graph, layer, x: str, shape: Shape, lengths: list[str], cache: list[str], present: list[str], name: str
) -> str:
    q = g.linear(x, layer.q_proj.weight, name + ".q_proj")
    k = g.linear(x, layer.k_proj.weight, name + ".k_proj")
    v = g.linear(x, layer.v_proj.weight, name + ".v_proj")
    q = g.head_norm(q, shape.heads, HEAD_DIM, layer.q_layernorm.weight, name + ".q_layernorm")
    k = g.head_norm(k, shape.kv_heads, HEAD_DIM, layer.k_layernorm.weight, name + ".k_layernorm")
    out = g.node(
        "GroupQueryAttention",
        [q, k, v, *cache, *lengths, "cos_cache", "sin_cache"],
        [name + "/attention", *present],
        domain="com.microsoft",
        num_heads=shape.heads,
        kv_num_heads=shape.kv_heads,
        do_rotary=1,
        rotary_interleaved=0,
        scale=HEAD_DIM**-0.5,
    )
    return g.linear(out, layer.out_proj.weight, name + ".out_proj")


def build(shape: Shape, model) -> onnx.ModelProto:
    g, hidden = Graph("decoder"), shape.hidden
    x = g.input("inputs_embeds", FLOAT, ["batch_size", "sequence_length", hidden])
    mask = g.input("attention_mask", INT64, ["batch_size", "total_sequence_length"])

    real = g.node("ReduceSum", [mask, g.ints(1)], "mask/real", keepdims=0)
    last = g.node("Sub", [real, g.constant("one", np.int64(1))], "mask/last")
    seqlens = g.node("Cast", [last], "mask/seqlens_k", to=INT32)
    width = g.node("Gather", [g.node("Shape", [mask], "mask/shape"), g.constant("axis_1", np.int64(1))], "mask/width")
    lengths = [seqlens, g.node("Cast", [width], "mask/total", to=INT32)]
    cos, sin = rotary_tables(shape.lfm()["max_position_embeddings"], HEAD_DIM, 1e6)
    g.constant("cos_cache", cos), g.constant("sin_cache", sin)

    presents = []
    for i, layer in enumerate(model.lfm.layers):
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
            mixed = attention(g, layer.self_attn, normed, shape, lengths, caches, outputs, name + ".self_attn")
        x = g.node("Add", [x, mixed], name + "/after_operator")
        normed = g.rms_norm(x, layer.ffn_norm.weight, name + ".ffn_norm")
        mlp = layer.feed_forward
        forward = g.swiglu(normed, mlp.w1.weight, mlp.w3.weight, mlp.w2.weight, name + ".feed_forward")
        x = g.node("Add", [x, forward], name + "/after_feed_forward")
    g.rms_norm(x, model.lfm.embedding_norm.weight, "embedding_norm", "hidden_states")
    g.linear("hidden_states", model.lfm.embed_tokens.weight, "lm_head", "logits")

    g.output("logits", FLOAT, ["batch_size", "sequence_length", VOCAB])
    for output, sizes in presents:
        g.output(output, FLOAT, sizes)
    g.output("hidden_states", FLOAT, ["batch_size", "sequence_length", hidden])
    return g.model()


LM_HEAD = "logits/MatMul"


def copied_cache(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The same decoder with a copy between each attention node and its present outputs.

    The attention node can then not extend a cache in place, as in exports that write their caches some other way.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(graph)
    copies = []
    for node in changed.graph.node:
        if node.op_type == "GroupQueryAttention":
            for index in (1, 2):
                present = node.output[index]
                node.output[index] = present + "/grown"
                copies.append(onnx.helper.make_node("Identity", [node.output[index]], [present]))
    changed.graph.node.extend(copies)
    return changed


def talkative(graph: onnx.ModelProto, silenced: tuple[int, ...], vocabulary: int) -> onnx.ModelProto:
    """The same decoder, which never says the `silenced` tokens: a random model with no end to its answers."""
    changed = onnx.ModelProto()
    changed.CopyFrom(graph)
    bias = np.zeros(vocabulary, dtype=np.float32)
    bias[list(silenced)] = -1e4
    changed.graph.initializer.append(onnx.numpy_helper.from_array(bias, "logits/bias"))
    for node in changed.graph.node:
        if node.output[0] == "logits":
            node.output[0] = "logits/product"
    changed.graph.node.append(onnx.helper.make_node("Add", ["logits/product", "logits/bias"], ["logits"]))
    return changed
