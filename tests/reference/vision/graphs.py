"""The graphs of a vision folder that no other family has: the encoder of tiles, and the lookups in front of the decoder.

The encoder is the published "tiled" form: it takes patches, a mask and the size in patches, and shapes everything after
the first entry, so that one run serves one tile.
"""

import numpy as np
import onnx
from onnxruntime.quantization import matmul_nbits_quantizer as nbits
from onnxruntime.transformers.float16 import convert_float_to_float16

from speech import backbone
from speech.graph import FLOAT, INT64, Graph

from .shapes import IMAGE_TOKEN, Shape

PATCH = 16 * 16 * 3


def biased(g: Graph, x: str, linear, name: str) -> str:
    bias = g.constant(name + ".bias", linear.bias)
    return g.node("Add", [g.linear(x, linear.weight, name), bias], name + "/biased")


def layer_norm(g: Graph, x: str, norm, name: str) -> str:
    scale, bias = g.constant(name + ".weight", norm.weight), g.constant(name + ".bias", norm.bias)
    return g.node("LayerNormalization", [x, scale, bias], name, axis=-1, epsilon=norm.eps)


def gelu(g: Graph, x: str, form: str, name: str) -> str:
    return g.node("Gelu", [x], name, approximate=form)


def attention(g: Graph, x: str, layer, heads: int, name: str) -> str:
    size = layer.head_dim
    split = lambda part, perm: g.node(  # noqa: E731
        "Transpose",
        [g.reshape(biased(g, x, getattr(layer, part), f"{name}.{part}"), [0, 0, heads, size], f"{name}.{part}/heads")],
        f"{name}.{part}/apart",
        perm=perm,
    )
    q, k, v = split("q_proj", [0, 2, 1, 3]), split("k_proj", [0, 2, 3, 1]), split("v_proj", [0, 2, 1, 3])
    scores = g.node("Mul", [g.node("MatMul", [q, k], name + "/dots"), g.constant("scale", np.float32(layer.scale))], name + "/scores")
    mixed = g.node("MatMul", [g.node("Softmax", [scores], name + "/shares", axis=-1), v], name + "/mixed")
    rows = g.node("Transpose", [mixed], name + "/rows", perm=[0, 2, 1, 3])
    return biased(g, g.reshape(rows, [0, 0, heads * size], name + "/joined"), layer.out_proj, name + ".out_proj")


def tiled(g: Graph) -> tuple[str, dict, str]:
    """Inputs of the published "tiled" form: pixels, height and width in patches, patches without padding."""
    pixels = g.input("pixel_values", FLOAT, ["batch_size", "num_patches", PATCH])
    mask = g.input("pixel_attention_mask", INT64, ["batch_size", "num_patches"])
    sizes = g.input("spatial_shapes", INT64, ["batch_size", 2])
    first = g.node("Gather", [sizes, g.constant("zero", np.int64(0))], "size", axis=0)
    size = {part: g.slice(first, i, i + 1, 0, part) for i, part in enumerate(("height", "width"))}
    counts = g.node("ReduceSum", [mask, g.ints(1)], "counts", keepdims=0)
    real = g.node("ReduceMax", [counts, g.ints(0)], "real", keepdims=1)
    return pixels, size, g.node("Slice", [pixels, g.ints(0), real, g.ints(1)], "patches")


def convolved(g: Graph) -> tuple[str, dict, str]:
    """Inputs of the rare "conv2d" form, which takes pixels as planes and their size in tokens; patches are
    cut in the graph. The weights are those of the other form."""
    pixels = g.input("pixel_values", FLOAT, ["batch_size", 3, "height", "width"])
    size = {}
    for part in ("height", "width"):
        tokens = g.input(f"spatial_{part[0]}", INT64, [])
        one = g.node("Reshape", [tokens, g.ints(1)], f"{part}/tokens")
        size[part] = g.node("Mul", [one, g.ints(2)], part)
    shape = g.node("Concat", [g.ints(1), g.ints(3), size["height"], g.ints(16), size["width"], g.ints(16)], "cut", axis=0)
    cut = g.node("Transpose", [g.node("Reshape", [pixels, shape], "apart")], "apart/rows", perm=[0, 2, 4, 3, 5, 1])
    return pixels, size, g.reshape(cut, [1, -1, PATCH], "patches")


def encoder(shape: Shape, model, *, flat: bool, planes: bool = False) -> onnx.ModelProto:
    """`flat`: rows of all tokens as `image_features` (layouts B and C); otherwise `image_embeddings` [n, tokens, H]."""
    tower, projector = model.model.vision_tower, model.model.multi_modal_projector
    g = Graph("vision_encoder")
    pixels, size, patches = convolved(g) if planes else tiled(g)

    side = shape.side
    table = tower.embeddings.position_embedding.weight.detach().numpy().T.reshape(1, -1, side, side)
    grid = g.node("Concat", [g.constant("one_and_width", np.array([1, shape.vision_hidden], np.int64)), size["height"], size["width"]], "grid", axis=0)
    places = g.node(
        "Resize", [g.constant("position_embedding", table), "", "", grid], "places", mode="linear",
        coordinate_transformation_mode="half_pixel",
    )  # fmt: skip
    places = g.node("Transpose", [g.reshape(places, [1, shape.vision_hidden, -1], "places/flat")], "places/rows", perm=[0, 2, 1])
    x = g.node("Add", [biased(g, patches, tower.embeddings.patch_embedding, "patch_embedding"), places], "placed")

    for i, layer in enumerate(tower.encoder.layers):
        name = f"layers.{i}"
        normed = layer_norm(g, x, layer.layer_norm1, name + ".layer_norm1")
        mixed = attention(g, normed, layer.self_attn, shape.vision_heads, name + ".self_attn")
        x = g.node("Add", [x, mixed], name + "/after_attention")
        normed = layer_norm(g, x, layer.layer_norm2, name + ".layer_norm2")
        inner = gelu(g, biased(g, normed, layer.mlp.fc1, name + ".fc1"), "tanh", name + "/gelu")
        x = g.node("Add", [x, biased(g, inner, layer.mlp.fc2, name + ".fc2")], name + "/after_mlp")
    x = layer_norm(g, x, tower.post_layernorm, "post_layernorm")

    # Two by two patches become one token: rows of the grid are split in pairs, then its columns.
    half = {part: g.node("Div", [value, g.ints(2)], f"{part}/half") for part, value in size.items()}
    batch = g.slice(g.node("Shape", [pixels], "shape"), 0, 1, 0, "entries")
    paired = g.node("Concat", [batch, half["height"], g.ints(2), half["width"], g.ints(2 * shape.vision_hidden)], "paired", axis=0)
    x = g.node("Transpose", [g.node("Reshape", [x, paired], "pairs")], "pairs/apart", perm=[0, 1, 3, 2, 4])
    tokens = g.node("Concat", [batch, g.ints(-1), g.ints(4 * shape.vision_hidden)], "tokens", axis=0)
    x = g.node("Reshape", [x, tokens], "unshuffled")
    x = gelu(g, biased(g, x, projector.linear_1, "linear_1"), "none", "projector/gelu")
    output = "image_features" if flat else "image_embeddings"
    rows = biased(g, x, projector.linear_2, "linear_2")
    if flat:
        g.node("Reshape", [rows, g.ints(-1, shape.hidden)], output)
        g.output(output, FLOAT, ["num_image_tokens", shape.hidden])
    else:
        g.node("Identity", [rows], output)
        g.output(output, FLOAT, ["batch_size", "num_image_tokens", shape.hidden])
    return g.model()


class Lfm:
    """The model's backbone under the names that `speech.backbone` writes it by."""

    def __init__(self, model):
        self.lfm = model.model.language_model


def decoder(shape: Shape, model) -> onnx.ModelProto:
    """Layout A's decoder from embeddings; vision exports do not give hidden states out."""
    graph = backbone.build(shape, Lfm(model))
    kept = [output for output in graph.graph.output if output.name != "hidden_states"]
    del graph.graph.output[:]
    graph.graph.output.extend(kept)
    return graph


def embed_tokens(model) -> onnx.ModelProto:
    g = Graph("embed_tokens")
    ids = g.input("input_ids", INT64, ["batch_size", "sequence_length"])
    table = model.model.language_model.embed_tokens.weight
    g.node("Gather", [g.constant("embed_tokens.weight", table), ids], "inputs_embeds", axis=0)
    g.output("inputs_embeds", FLOAT, ["batch_size", "sequence_length", table.shape[1]])
    return g.model()


def embeddings(model) -> onnx.ModelProto:
    """Layout C: row i of `image_features` takes the place of the i-th placeholder."""
    g = Graph("embeddings")
    ids = g.input("input_ids", INT64, ["batch_size", "sequence_length"])
    table = model.model.language_model.embed_tokens.weight
    features = g.input("image_features", FLOAT, ["num_image_tokens", table.shape[1]])
    text = g.node("Gather", [g.constant("embed_tokens.weight", table), ids], "text", axis=0)
    placed = g.node("Equal", [ids, g.constant("placeholder", np.int64(IMAGE_TOKEN))], "placed")
    where = g.node("Transpose", [g.node("NonZero", [placed], "placed/where")], "placed/indices", perm=[1, 0])
    g.node("ScatterND", [text, where, features], "inputs_embeds")
    g.output("inputs_embeds", FLOAT, ["batch_size", "sequence_length", table.shape[1]])
    return g.model()



def half(model: onnx.ModelProto, *kept: str) -> onnx.ModelProto:
    """16-bit weights and caches; the inputs and outputs `kept` stay 32-bit."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    return convert_float_to_float16(copy, keep_io_types=list(kept), disable_shape_infer=True)


def quantised(model: onnx.ModelProto, bits: int) -> onnx.ModelProto:
    """MatMulNBits with symmetric blocks of 32. What patches become stays fp32, and as published an int4 decoder's head."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    config = nbits.DefaultWeightOnlyQuantConfig(block_size=32, is_symmetric=True, accuracy_level=4, bits=bits)
    kept = [node.name for node in copy.graph.node if node.output[0] in ("patch_embedding", "logits")]
    quantizer = nbits.MatMulNBitsQuantizer(copy, algo_config=config, nodes_to_exclude=kept)
    quantizer.process()
    return quantizer.model.model
