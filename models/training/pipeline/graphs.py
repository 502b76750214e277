"""The ONNX graphs of the published layout, written node by node from the trained modules.

The writer, the backbone's, the depthformer's and the lookups' graphs are those of tests/reference, which proves them
against liquid-audio; the ear and the detokenizer are shaped differently here and have writers of their own.
"""

import contextlib
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import torch

from . import assistant, codec, encoder, mel, tokens
from .examples import N_AUDIO, N_TEXT
from .store import SOURCE

sys.path.insert(0, str(SOURCE.parent.parent / "tests" / "reference"))
from speech import backbone, depthformer, embedding  # noqa: E402
from speech.graph import FLOAT, INT64, Graph  # noqa: E402

POSITIONS = 4096
SHAPE = SimpleNamespace(
    hidden=assistant.WIDTH, heads=assistant.HEADS, kv_heads=assistant.KV_HEADS, codebook_size=assistant.ROWS, end_code=assistant.END,
    layer_types=tuple("conv" if kind == "c" else "full_attention" for kind in assistant.PLAN),
    depth_dim=assistant.DEPTH, depth_layers=assistant.DEPTH_LAYERS, depth_heads=assistant.DEPTH_HEADS, depth_kv_heads=assistant.DEPTH_KV,
    n_text=N_TEXT, n_audio=N_AUDIO,
    lfm=lambda: {"max_position_embeddings": POSITIONS},
)


@contextlib.contextmanager
def sized(module, **constants):
    """The fixtures' head size and vocabulary are constants of their modules; here they are other numbers."""
    before = {name: getattr(module, name) for name in constants}
    try:
        for name, value in constants.items():
            setattr(module, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def decoder(model) -> onnx.ModelProto:
    with sized(backbone, HEAD_DIM=assistant.WIDTH // assistant.HEADS, VOCAB=tokens.ROWS):
        return backbone.build(SHAPE, model)


def depth(model) -> onnx.ModelProto:
    with sized(depthformer, HEAD_DIM=assistant.DEPTH // assistant.DEPTH_HEADS):
        return depthformer.current(SHAPE, model)


def audio_embedding(model) -> onnx.ModelProto:
    return embedding.audio_embedding(SHAPE, model)


def embeddings(model) -> onnx.ModelProto:
    return embedding.embeddings(SHAPE, model)


def affine(g: Graph, x: str, linear, name: str) -> str:
    return g.node("Add", [g.linear(x, linear.weight, name + "/product"), g.constant(name + ".bias", linear.bias)], name)


def layer_norm(g: Graph, x: str, norm, name: str) -> str:
    return g.node("LayerNormalization", [x, g.constant(name + ".weight", norm.weight), g.constant(name + ".bias", norm.bias)], name, axis=-1, epsilon=norm.eps)


def gelu(g: Graph, x: str, name: str) -> str:
    """By the error function: the operator of its own name came after the published opsets' kernels."""
    curve = g.node("Erf", [g.node("Mul", [x, g.constant("root_half", np.float32(0.5**0.5))], name + "/scaled")], name + "/erf")
    lifted = g.node("Add", [curve, g.constant("one_f", np.float32(1))], name + "/lifted")
    return g.node("Mul", [g.node("Mul", [x, lifted], name + "/twice"), g.constant("half_f", np.float32(0.5))], name)


def silu(g: Graph, x: str, name: str) -> str:
    return g.node("Mul", [x, g.node("Sigmoid", [x], name + "/gate")], name)


def rotation(g: Graph, x: str, size: int, theta: float) -> tuple[str, str]:
    """Cosines and sines [T, size / 2] of the positions of [1, T, …]."""
    length = g.node("Gather", [g.node("Shape", [x], "rotation/shape"), g.constant("one", np.int64(1))], "rotation/length")
    positions = g.node("Range", [g.constant("zero", np.int64(0)), length, "one"], "rotation/positions")
    column = g.node("Unsqueeze", [g.node("Cast", [positions], "rotation/float", to=FLOAT), g.ints(1)], "rotation/column")
    rates = theta ** (-np.arange(0, size, 2, dtype=np.float32) / size)
    angles = g.node("Mul", [column, g.constant("rotation.rates", rates[None].astype(np.float32))], "rotation/angles")
    return g.node("Cos", [angles], "rotation/cos"), g.node("Sin", [angles], "rotation/sin")


def rotate(g: Graph, x: str, cos: str, sin: str, size: int, name: str) -> str:
    """Halves of the last dimension of [B, heads, T, size]."""
    low, high = g.slice(x, 0, size // 2, 3, name + "/low"), g.slice(x, size // 2, size, 3, name + "/high")
    first = g.node("Sub", [g.node("Mul", [low, cos], name + "/lc"), g.node("Mul", [high, sin], name + "/hs")], name + "/first")
    second = g.node("Add", [g.node("Mul", [high, cos], name + "/hc"), g.node("Mul", [low, sin], name + "/ls")], name + "/second")
    return g.node("Concat", [first, second], name, axis=3)


def attend(g: Graph, q: str, k: str, v: str, size: int, width: int, name: str, bias: str | None = None) -> str:
    scores = g.node("MatMul", [q, g.node("Transpose", [k], name + "/columns", perm=[0, 1, 3, 2])], name + "/scores")
    scores = g.node("Mul", [scores, g.constant(f"scale_{size}", np.float32(size**-0.5))], name + "/scaled")
    if bias:
        scores = g.node("Add", [scores, bias], name + "/masked")
    mixed = g.node("MatMul", [g.node("Softmax", [scores], name + "/weights", axis=-1), v], name + "/mixed")
    return g.reshape(g.node("Transpose", [mixed], name + "/rows", perm=[0, 2, 1, 3]), [0, 0, width], name)


def ear(model) -> onnx.ModelProto:
    """One clip, all of it valid: nothing to mask."""
    g, width, heads = Graph("audio_encoder"), encoder.WIDTH, encoder.HEADS
    size = width // heads
    x = g.input("mel_spectrogram", FLOAT, ["batch_size", "frames", mel.BINS])
    lengths = g.input("mel_lengths", INT64, ["batch_size"])
    for number, stage in enumerate(model.ear.encoder.down):
        name = f"down.{number}"
        padded = g.node("Pad", [x, g.ints(0, 1, 0, 0, 2, 0), g.constant("nothing", np.float32(0))], name + "/padded")
        taps = [g.node("Slice", [padded, g.ints(tap), g.ints(tap - 3), g.ints(1), g.ints(2)], f"{name}/tap{tap}") for tap in range(3)]
        x = affine(g, g.node("Concat", taps, name + "/taps", axis=2), stage.mix, name + ".mix")
        x = gelu(g, layer_norm(g, x, stage.norm, name + ".norm"), name + "/wide")
        x = g.node("Add", [x, gelu(g, affine(g, x, stage.deep, name + ".deep"), name + "/deeper")], name)
    cos, sin = rotation(g, x, size, 1e4)
    for number, block in enumerate(model.ear.encoder.blocks):
        name = f"blocks.{number}"
        packed = affine(g, layer_norm(g, x, block.attention_norm, name + ".attention_norm"), block.qkv, name + ".qkv")
        parts = [name + "/q_rows", name + "/k_rows", name + "/v_rows"]
        g.node("Split", [packed], parts, axis=2, num_outputs=3)
        q, k, v = (g.node("Transpose", [g.reshape(part, [0, 0, heads, size], part + "/heads")], part + "/first", perm=[0, 2, 1, 3]) for part in parts)
        q, k = rotate(g, q, cos, sin, size, name + "/q"), rotate(g, k, cos, sin, size, name + "/k")
        x = g.node("Add", [x, affine(g, attend(g, q, k, v, size, width, name + "/attended"), block.attended, name + ".attended")], name + "/after_attention")
        gate = affine(g, layer_norm(g, x, block.convolution_norm, name + ".convolution_norm"), block.gate, name + ".gate")
        halves = [name + "/value", name + "/opening"]
        g.node("Split", [gate], halves, axis=2, num_outputs=2)
        y = g.node("Mul", [halves[0], g.node("Sigmoid", [halves[1]], name + "/open")], name + "/gated")
        weight = g.constant(name + ".taps", block.taps.T[:, None])
        y = g.node("Conv", [g.node("Transpose", [y], name + "/channels", perm=[0, 2, 1]), weight], name + "/conv", group=width, kernel_shape=[encoder.TAPS], pads=[encoder.TAPS // 2] * 2)
        y = layer_norm(g, g.node("Transpose", [y], name + "/rows", perm=[0, 2, 1]), block.mixed_norm, name + ".mixed_norm")
        x = g.node("Add", [x, affine(g, silu(g, y, name + "/live"), block.convolved, name + ".convolved")], name + "/after_convolution")
        y = affine(g, layer_norm(g, x, block.feed_norm, name + ".feed_norm"), block.feed, name + ".feed")
        x = g.node("Add", [x, affine(g, silu(g, y, name + "/fed"), block.fed, name + ".fed")], name)
    x = layer_norm(g, x, model.ear.encoder.norm, "norm")
    adapter = model.audio_adapter["model"]
    x = gelu(g, affine(g, layer_norm(g, x, adapter[0], "adapter.norm"), adapter[1], "adapter.enter"), "adapter/wide")
    g.node("Add", [g.linear(x, adapter[3].weight, "adapter.leave"), g.constant("adapter.leave.bias", adapter[3].bias)], "audio_embeddings")
    g.node("Div", [g.node("Add", [lengths, g.constant("seven", np.int64(7))], "lengths/up"), g.constant("eight", np.int64(8))], "audio_lengths")
    g.output("audio_embeddings", FLOAT, ["batch_size", "rows", assistant.WIDTH])
    g.output("audio_lengths", INT64, ["batch_size"])
    return g.model()


def detokenizer(made) -> onnx.ModelProto:
    """`made` is a codec.Codec; its quantiser and its entrance become the one table of the published layout."""
    g, width, heads, kv_heads = Graph("audio_detokenizer"), codec.WIDTH, codec.HEADS, codec.KV_HEADS
    size, lfm = width // heads, made.decoder.lfm
    codes = g.input("audio_codes", INT64, ["batch_size", codec.CODEBOOKS, "time"])
    offsets = g.constant("codes.offsets", np.arange(codec.CODEBOOKS, dtype=np.int64)[:, None] * codec.SIZE)
    places = g.node("Add", [codes, offsets], "codes/rows")
    # One row of places: the 8-bit lookup kernel wants at most two dimensions of indices.
    flat = g.reshape(places, [-1], "codes/flat")
    found = g.node("Gather", [g.constant("codes.weight", made.table()), flat], "codes/found", axis=0)
    shaped = g.node("Reshape", [found, g.node("Concat", [g.node("Shape", [places], "codes/shape"), g.ints(width)], "codes/target", axis=0)], "codes/embedded")
    each = g.node("Unsqueeze", [g.node("ReduceMean", [shaped, g.ints(1)], "codes/mean", keepdims=0), g.ints(2)], "codes/each")
    x = g.reshape(g.node("Tile", [each, g.ints(1, 1, codec.UP, 1)], "codes/repeated"), [0, -1, width], "codes/upsampled")
    cos, sin = rotation(g, x, size, 1e6)
    distance = g.node("Sub", [g.node("Unsqueeze", ["rotation/positions", g.ints(1)], "distance/own"), g.node("Unsqueeze", ["rotation/positions", g.ints(0)], "distance/other")], "distance")
    seen = g.node("And", [g.node("GreaterOrEqual", [distance, "zero"], "distance/past"), g.node("Less", [distance, g.constant("window", np.int64(codec.WINDOW))], "distance/near")], "seen")
    bias = g.node("Where", [seen, g.constant("nothing", np.float32(0)), g.constant("hidden", np.float32(-1e9))], "bias")
    for number, layer in enumerate(lfm.layers):
        name = f"layers.{number}"
        normed = g.rms_norm(x, layer.operator_norm.weight, name + ".operator_norm")
        if lfm.plan[number] == "c":
            parts = [name + "/in", name + "/out", name + "/x"]
            g.node("Split", [g.linear(normed, layer.conv.in_proj.weight, name + ".in_proj")], parts, axis=2, num_outputs=3)
            channels = g.node("Transpose", [g.node("Mul", [parts[0], parts[2]], name + "/gated")], name + "/channels", perm=[0, 2, 1])
            y = g.node("Conv", [channels, g.constant(name + ".conv.weight", layer.conv.conv.weight)], name + "/conv", group=width, kernel_shape=[3], pads=[2, 0])
            y = g.node("Mul", [parts[1], g.node("Transpose", [y], name + "/rows", perm=[0, 2, 1])], name + "/mixed")
            y = g.linear(y, layer.conv.out_proj.weight, name + ".out_proj")
        else:
            held, own = layer.self_attn, {}
            for part, linear, count, norm in (("q", held.q_proj, heads, held.q_layernorm), ("k", held.k_proj, kv_heads, held.k_layernorm), ("v", held.v_proj, kv_heads, None)):
                y = g.reshape(g.linear(normed, linear.weight, f"{name}.{part}_proj"), [0, 0, count, size], f"{name}/{part}/heads")
                y = g.rms_norm(y, norm.weight, f"{name}.{part}_layernorm") if norm else y
                y = g.node("Transpose", [y], f"{name}/{part}/heads_first", perm=[0, 2, 1, 3])
                y = rotate(g, y, cos, sin, size, f"{name}/{part}") if norm else y
                if count < heads:
                    order = np.repeat(np.arange(count), heads // count).astype(np.int64)
                    y = g.node("Gather", [y, g.constant("spread", order)], f"{name}/{part}/spread", axis=1)
                own[part] = y
            y = attend(g, own["q"], own["k"], own["v"], size, width, name + "/attention", bias)
            y = g.linear(y, held.out_proj.weight, name + ".out_proj")
        x = g.node("Add", [x, y], name + "/after_operator")
        mlp = layer.feed_forward
        fed = g.swiglu(g.rms_norm(x, layer.ffn_norm.weight, name + ".ffn_norm"), mlp.w1.weight, mlp.w3.weight, mlp.w2.weight, name + ".feed_forward")
        x = g.node("Add", [x, fed], name + "/after_feed_forward")
    x = g.rms_norm(x, lfm.embedding_norm.weight, "embedding_norm")
    g.node("Add", [g.linear(x, made.decoder.lin.weight, "lin"), g.constant("lin.bias", made.decoder.lin.bias)], "stft_features")
    g.output("stft_features", FLOAT, ["batch_size", "time", codec.FFT + 2])
    return g.model()
