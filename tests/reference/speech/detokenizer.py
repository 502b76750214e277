"""The detokenizer graph: 8 codes a frame in, 6 STFT columns (641 log magnitudes, 641 phases) a frame out."""

import numpy as np
import onnx

from .graph import FLOAT, INT64, Graph
from .shapes import CODEBOOKS, HEAD_DIM, STFT_BINS, Shape

UPSAMPLING = 6
TABLES = ("codes.weight",)


def build(shape: Shape, model) -> onnx.ModelProto:
    g, width = Graph("audio_detokenizer"), shape.detokenizer_dim
    codes = g.input("audio_codes", INT64, ["batch_size", CODEBOOKS, "time"])
    offsets = g.constant("codes.offsets", np.arange(CODEBOOKS, dtype=np.int64)[:, None] * shape.end_code)
    rows = g.node(
        "Gather",
        [g.constant("codes.weight", model.emb.emb.weight), g.node("Add", [codes, offsets], "codes/rows")],
        "codes/embedded",
        axis=0,
    )
    mean = g.node("ReduceMean", [rows, g.ints(1)], "codes/mean", keepdims=0)
    each = g.node("Unsqueeze", [mean, g.ints(2)], "codes/each")
    repeated = g.node("Tile", [each, g.ints(1, 1, UPSAMPLING, 1)], "codes/repeated")
    x = g.reshape(repeated, [0, -1, width], "codes/upsampled")

    length = g.node("Gather", [g.node("Shape", [x], "shape"), g.constant("one", np.int64(1))], "length")
    positions = g.node("Range", [g.constant("zero", np.int64(0)), length, "one"], "positions")
    distance = g.node(
        "Sub",
        [
            g.node("Unsqueeze", [positions, g.ints(1)], "positions/own"),
            g.node("Unsqueeze", [positions, g.ints(0)], "positions/other"),
        ],
        "distance",
    )
    causal = g.node("GreaterOrEqual", [distance, "zero"], "distance/causal")
    near = g.node("Less", [distance, g.constant("window", np.int64(shape.detokenizer_window))], "distance/near")
    bias = g.node(
        "Where",
        [
            g.node("And", [causal, near], "visible"),
            g.constant("nothing", np.float32(0)),
            g.constant("hidden", np.float32(-1e9)),
        ],
        "bias",
    )
    frequencies = g.constant(
        "frequencies", (1.0 / 1e6 ** (np.arange(0, HEAD_DIM, 2, dtype=np.float32) / HEAD_DIM)).astype(np.float32)[None]
    )
    column = g.node(
        "Unsqueeze", [g.node("Cast", [positions], "positions/float", to=FLOAT), g.ints(1)], "positions/column"
    )
    angles = g.node("Mul", [column, frequencies], "angles")
    cos, sin = g.node("Cos", [angles], "cos"), g.node("Sin", [angles], "sin")

    config = shape.detokenizer()
    for i, layer in enumerate(model.lfm.layers):
        name = f"layers.{i}"
        normed = g.rms_norm(x, layer.operator_norm.weight, name + ".operator_norm")
        if config["layer_types"][i] == "conv":
            mixed = causal_conv(g, layer.conv, normed, width, name + ".conv")
        else:
            heads = config["num_attention_heads"], config["num_key_value_heads"]
            mixed = windowed_attention(g, layer.self_attn, normed, heads, cos, sin, bias, name + ".self_attn")
        x = g.node("Add", [x, mixed], name + "/after_operator")
        mlp = layer.feed_forward
        normed = g.rms_norm(x, layer.ffn_norm.weight, name + ".ffn_norm")
        forward = g.swiglu(normed, mlp.w1.weight, mlp.w3.weight, mlp.w2.weight, name + ".feed_forward")
        x = g.node("Add", [x, forward], name + "/after_feed_forward")
    x = g.rms_norm(x, model.lfm.embedding_norm.weight, "embedding_norm")
    g.node("Add", [g.linear(x, model.lin.weight, "lin"), g.constant("lin.bias", model.lin.bias)], "stft_features")
    # The published graph calls the middle dimension of its output `time` too, although it is six times as long.
    g.output("stft_features", FLOAT, ["batch_size", "time", 2 * STFT_BINS])
    return g.model()


def causal_conv(g: Graph, layer, x: str, width: int, name: str) -> str:
    channels = g.node(
        "Transpose", [g.linear(x, layer.in_proj.weight, name + ".in_proj")], name + "/channels", perm=[0, 2, 1]
    )
    b, c, inner = name + "/b", name + "/c", name + "/x"
    g.node("Split", [channels], [b, c, inner], axis=1, num_outputs=3)
    weight = g.constant(name + ".conv.weight", layer.conv.weight)
    gated = g.node("Mul", [b, inner], name + "/bx")
    mixed = g.node("Conv", [gated, weight], name + "/conv", group=width, kernel_shape=[3], pads=[2, 0])
    rows = g.node("Transpose", [g.node("Mul", [c, mixed], name + "/cy")], name + "/rows", perm=[0, 2, 1])
    return g.linear(rows, layer.out_proj.weight, name + ".out_proj")


def windowed_attention(
    g: Graph, layer, x: str, heads: tuple[int, int], cos: str, sin: str, bias: str, name: str
) -> str:
    def projected(linear, norm, count, part):
        y = g.linear(x, linear.weight, f"{name}.{part}_proj")
        y = g.reshape(y, [0, 0, count, HEAD_DIM], f"{name}/{part}/heads")
        if norm is not None:
            y = g.rms_norm(y, norm.weight, f"{name}.{part}_layernorm")
        return g.node("Transpose", [y], f"{name}/{part}/heads_first", perm=[0, 2, 1, 3])

    def rotate(y, part):
        low = g.slice(y, 0, HEAD_DIM // 2, 3, f"{name}/{part}/low")
        high = g.slice(y, HEAD_DIM // 2, HEAD_DIM, 3, f"{name}/{part}/high")
        first = g.node(
            "Sub",
            [g.node("Mul", [low, cos], f"{name}/{part}/lc"), g.node("Mul", [high, sin], f"{name}/{part}/hs")],
            f"{name}/{part}/first",
        )
        second = g.node(
            "Add",
            [g.node("Mul", [high, cos], f"{name}/{part}/hc"), g.node("Mul", [low, sin], f"{name}/{part}/ls")],
            f"{name}/{part}/second",
        )
        return g.node("Concat", [first, second], f"{name}/{part}/rotated", axis=3)

    query, kv = heads
    assert kv == 1, "one key head is broadcast over the query heads"
    q = rotate(projected(layer.q_proj, layer.q_layernorm, query, "q"), "q")
    k = rotate(projected(layer.k_proj, layer.k_layernorm, kv, "k"), "k")
    v = projected(layer.v_proj, None, kv, "v")
    scores = g.node("MatMul", [q, g.node("Transpose", [k], name + "/k/columns", perm=[0, 1, 3, 2])], name + "/scores")
    scaled = g.node("Mul", [scores, g.constant("scale", np.float32(HEAD_DIM**-0.5))], name + "/scaled")
    weights = g.node("Softmax", [g.node("Add", [scaled, bias], name + "/masked")], name + "/weights", axis=-1)
    mixed = g.node("Transpose", [g.node("MatMul", [weights, v], name + "/mixed")], name + "/rows", perm=[0, 2, 1, 3])
    joined = g.reshape(mixed, [0, 0, query * HEAD_DIM], name + "/joined")
    return g.linear(joined, layer.out_proj.weight, name + ".out_proj")
