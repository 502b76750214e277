"""The depthformer graphs: the current form, the published faulty one, and the two older forms, all of the same weights.

Promises: every form but the faulty one gives the same codes. The tables (one per codebook, embedding and projection in
one) are named `tables` and weigh more than all the rest, so that the forms can share one data file for them.
"""

import numpy as np
import onnx
import torch
from onnx import helper

from .graph import FLOAT, INT32, INT64, Graph, rotary_tables
from .shapes import CODEBOOKS, HEAD_DIM, Shape

TABLE_ROWS = 16
TABLES = ("tables",)


def halves(heads: int) -> torch.Tensor:
    """The order that turns rotary pairs (0, 1), (2, 3)... into halves (0, 2, 4... | 1, 3, 5...), for each head."""
    one = torch.cat([torch.arange(0, HEAD_DIM, 2), torch.arange(1, HEAD_DIM, 2)])
    return torch.cat([one + head * HEAD_DIM for head in range(heads)])


class Form:
    """What the forms have in common: which slice a step reads, how a layer is built, how logits come about."""

    def __init__(self, shape: Shape, model, batch: str = "batch_size"):
        self.g, self.shape, self.model, self.batch = Graph("vocoder_depthformer"), shape, model, batch
        self.dim, self.heads, self.kv_heads = shape.depth_dim, shape.depth_heads, shape.depth_kv_heads

    def tables(self) -> None:
        stacked = torch.stack([t.embedding.weight for t in self.model.depth_embeddings])
        self.g.constant("tables", stacked)
        norms = torch.stack([t.embedding_norm.weight for t in self.model.depth_embeddings])
        self.g.constant("table_norms", norms)

    def project(self, hidden: str, name: str) -> str:
        flat = self.g.node(
            "Gemm",
            [hidden, self.g.constant("depth_linear.weight", self.model.depth_linear.weight), self.bias()],
            name + "/flat",
            transB=1,
        )
        return self.g.reshape(flat, [-1, CODEBOOKS, self.dim], name)

    def bias(self) -> str:
        return self.g.constant("depth_linear.bias", self.model.depth_linear.bias)

    def token_embedding(self, step: str, token: str) -> str:
        """The embedding of the code chosen at the step before; zero at step 0. [B, D]"""
        g = self.g
        zero, one = g.constant("zero", np.int64(0)), g.constant("one", np.int64(1))
        before = g.node("Max", [g.node("Sub", [step, one], "before/any"), zero], "before")
        table = g.node("Gather", ["tables", before], "before/table", axis=0)
        row = g.node("Gather", [table, token], "before/row", axis=0)
        asked = g.node("Cast", [g.node("Min", [step, one], "before/asked")], "before/factor", to=FLOAT)
        return g.node("Mul", [row, asked], "token_embed")

    def step_input(self, slices: str, step: str, embedding: str) -> str:
        own = self.g.node("Gather", [slices, step], "slice", axis=1)
        x = self.g.node("Add", [own, embedding], "step/row")
        return self.g.node("Unsqueeze", [x, self.g.ints(1)], "step/x")

    def layers(self, x: str, attend) -> str:
        """`attend(index, q, k, v, name)` is what differs between the forms."""
        g = self.g
        for i, block in enumerate(self.model.depthformer.layers):
            name, mha = f"layer.{i}", block.operator
            normed = g.rms_norm(x, block.operator_norm.weight, name + ".operator_norm")
            q_rows, kv_rows = self.heads * HEAD_DIM, self.kv_heads * HEAD_DIM
            wq, wk, wv = mha.qkv_proj.weight.split([q_rows, kv_rows, kv_rows])
            norms = mha.bounded_attention
            q = g.linear(normed, wq[halves(self.heads)], name + ".q_proj")
            k = g.linear(normed, wk[halves(self.kv_heads)], name + ".k_proj")
            v = g.linear(normed, wv, name + ".v_proj")
            q = g.head_norm(q, self.heads, HEAD_DIM, norms.q_layernorm.weight[halves(1)], name + ".q_norm")
            k = g.head_norm(k, self.kv_heads, HEAD_DIM, norms.k_layernorm.weight[halves(1)], name + ".k_norm")
            mixed = g.linear(attend(i, q, k, v, name), mha.out_proj.weight, name + ".out_proj")
            x = g.node("Add", [x, mixed], name + "/after_operator")
            glu = block.feed_forward
            normed = g.rms_norm(x, block.ffn_norm.weight, name + ".ffn_norm")
            forward = g.swiglu(normed, glu.w1.weight, glu.w3.weight, glu.w2.weight, name + ".feed_forward")
            x = g.node("Add", [x, forward], name + "/after_feed_forward")
        return g.node("Squeeze", [x, g.ints(1)], "final")

    def logits(self, x: str, step: str) -> None:
        g = self.g
        ones = g.constant("norm_ones", np.ones(self.dim, np.float32))
        normed = g.node("SimplifiedLayerNormalization", [x, ones], "logits/unit", axis=-1, epsilon=1e-5, stash_type=1)
        scaled = g.node(
            "Mul", [normed, g.node("Gather", ["table_norms", step], "logits/norm", axis=0)], "logits/scaled"
        )
        g.node("Gemm", [scaled, g.node("Gather", ["tables", step], "logits/table", axis=0)], "logits", transB=1)
        g.output("logits", FLOAT, [self.batch, self.shape.codebook_size])

    def layer_cache(self, cache: str, index: int, name: str) -> str:
        return self.g.node("Gather", [cache, self.g.constant(f"layer_{index}", np.int64(index))], name, axis=0)

    def stack(self, parts: list[str], output: str) -> None:
        lifted = [self.g.node("Unsqueeze", [part, self.g.ints(0)], part + "/lifted") for part in parts]
        self.g.node("Concat", lifted, output, axis=0)


def current(shape: Shape, model, *, faulty: bool = False) -> onnx.ModelProto:
    """8 inputs, 4 outputs. `faulty` leaves out do_rotary and has the tables of theta 1e4, as the published files do."""
    form = Form(shape, model)
    g, batch = form.g, form.batch
    cache = [shape.depth_layers, batch, shape.depth_kv_heads, "past_length", HEAD_DIM]
    grown = [*cache[:3], "total_length", HEAD_DIM]
    slices_shape = [batch, CODEBOOKS, shape.depth_dim]
    g.input("hidden_states", FLOAT, [batch, shape.hidden])
    g.input("depth_slices_in", FLOAT, slices_shape)
    g.input("step_idx", INT64, [])
    g.input("prev_token", INT64, [batch])
    g.input("past_keys", FLOAT, cache)
    g.input("past_values", FLOAT, cache)
    g.input("seqlens_k", INT32, [batch])
    g.input("total_seq_len", INT32, [])
    form.tables()

    # The projection is run at step 0 alone; later steps are handed its result back.
    inner = Form(shape, model)
    inner.project("hidden_states", "projected")
    outer_names = {"depth_linear.weight": model.depth_linear.weight, "depth_linear.bias": model.depth_linear.bias}
    for name, value in outer_names.items():
        g.constant(name, value)
    g.ints(-1, CODEBOOKS, shape.depth_dim)
    projected = helper.make_tensor_value_info("projected", FLOAT, slices_shape)
    kept = helper.make_tensor_value_info("kept", FLOAT, slices_shape)
    first = g.node("Equal", ["step_idx", g.constant("zero", np.int64(0))], "first")
    g.node(
        "If",
        [first],
        "depth_slices",
        then_branch=helper.make_graph(inner.g.nodes, "project", [], [projected]),
        else_branch=helper.make_graph(
            [helper.make_node("Identity", ["depth_slices_in"], ["kept"])], "keep", [], [kept]
        ),
    )
    x = form.step_input("depth_slices", "step_idx", form.token_embedding("step_idx", "prev_token"))

    keys, values = [], []

    def attend(i, q, k, v, name):
        cos, sin = rotary_tables(TABLE_ROWS, HEAD_DIM, 1e4 if faulty else 1e6)
        rotary = [g.constant(name + ".gqa_cos", cos), g.constant(name + ".gqa_sin", sin)]
        past = [
            form.layer_cache("past_keys", i, name + "/past_key"),
            form.layer_cache("past_values", i, name + "/past_value"),
        ]
        keys.append(name + "/key"), values.append(name + "/value")
        return g.node(
            "GroupQueryAttention",
            [q, k, v, *past, "seqlens_k", "total_seq_len", *rotary],
            [name + "/attention", keys[-1], values[-1]],
            domain="com.microsoft",
            num_heads=shape.depth_heads,
            kv_num_heads=shape.depth_kv_heads,
            scale=HEAD_DIM**-0.5,
            rotary_interleaved=0,
            **({} if faulty else {"do_rotary": 1}),
        )

    form.logits(form.layers(x, attend), "step_idx")
    form.stack(keys, "new_keys"), form.stack(values, "new_values")
    g.output("depth_slices", FLOAT, slices_shape)
    g.output("new_keys", FLOAT, grown)
    g.output("new_values", FLOAT, grown)
    return g.model()


def plain_attention(form: Form, step: str):
    """Attention in standard operators over caches [L, B, past, heads, size], and the lists its caches end up in."""
    g, keys, values = form.g, [], []
    cos, sin = rotary_tables(TABLE_ROWS, HEAD_DIM, 1e6)
    cos = g.node("Gather", [g.constant("rotary_cos", cos), step], "rotary/cos", axis=0)
    sin = g.node("Gather", [g.constant("rotary_sin", sin), step], "rotary/sin", axis=0)
    groups = form.heads // form.kv_heads

    def rotate(x, heads, name):
        x = g.reshape(x, [0, 0, heads, HEAD_DIM], name + "/split")
        low = g.slice(x, 0, HEAD_DIM // 2, 3, name + "/low")
        high = g.slice(x, HEAD_DIM // 2, HEAD_DIM, 3, name + "/high")
        parts = []
        for part, (a, b, sign) in {"a": (low, high, "Sub"), "b": (high, low, "Add")}.items():
            straight = g.node("Mul", [a, cos], f"{name}/{part}/cos")
            crossed = g.node("Mul", [b, sin], f"{name}/{part}/sin")
            parts.append(g.node(sign, [straight, crossed], f"{name}/{part}"))
        return g.node("Concat", parts, name + "/rotated", axis=3)

    def grow(cache, new, i, name):
        past = form.layer_cache(cache, i, f"{name}/{cache}")
        return g.node("Concat", [past, new], f"{name}/{cache}/grown", axis=1)

    def spread(x, name):
        """[B, T, kv, size] to [B, heads, T, size]"""
        x = g.node("Transpose", [x], name + "/heads_first", perm=[0, 2, 1, 3])
        index = g.constant("head_of_query", np.arange(form.heads, dtype=np.int64) // groups)
        return g.node("Gather", [x, index], name + "/spread", axis=1)

    def attend(i, q, k, v, name):
        q = rotate(q, form.heads, name + "/q")
        keys.append(grow("past_keys", rotate(k, form.kv_heads, name + "/k"), i, name))
        values.append(grow("past_values", g.reshape(v, [0, 0, form.kv_heads, HEAD_DIM], name + "/v"), i, name))
        q = g.node("Transpose", [q], name + "/q/heads_first", perm=[0, 2, 1, 3])
        k = g.node("Transpose", [spread(keys[-1], name + "/k")], name + "/k/columns", perm=[0, 1, 3, 2])
        scores = g.node("MatMul", [q, k], name + "/scores")
        scaled = g.node("Mul", [scores, g.constant("scale", np.float32(HEAD_DIM**-0.5))], name + "/scaled")
        weights = g.node("Softmax", [scaled], name + "/weights", axis=-1)
        mixed = g.node("MatMul", [weights, spread(values[-1], name + "/v")], name + "/mixed")
        mixed = g.node("Transpose", [mixed], name + "/rows", perm=[0, 2, 1, 3])
        return g.reshape(mixed, [0, 0, form.heads * HEAD_DIM], name + "/attention")

    return attend, keys, values


def old_caches(form: Form) -> tuple[list, list]:
    shape = form.shape
    past = [shape.depth_layers, form.batch, "past_length", shape.depth_kv_heads, HEAD_DIM]
    return past, [*past[:2], "total_length", *past[3:]]


def first_form(shape: Shape, model) -> onnx.ModelProto:
    """January 2026: 5 inputs, caches [L, B, past, heads, size], the slices projected again at every step."""
    form = Form(shape, model)
    g, (past, grown) = form.g, old_caches(form)
    g.input("hidden_states", FLOAT, [form.batch, shape.hidden])
    g.input("step_idx", INT64, [])
    g.input("prev_token", INT64, [form.batch])
    g.input("past_keys", FLOAT, past)
    g.input("past_values", FLOAT, past)
    form.tables()
    slices = form.project("hidden_states", "depth_slices")
    x = form.step_input(slices, "step_idx", form.token_embedding("step_idx", "prev_token"))
    attend, keys, values = plain_attention(form, "step_idx")
    form.logits(form.layers(x, attend), "step_idx")
    form.stack(keys, "new_keys"), form.stack(values, "new_values")
    g.output("depth_slices", FLOAT, [form.batch, CODEBOOKS, shape.depth_dim])
    g.output("new_keys", FLOAT, grown)
    g.output("new_values", FLOAT, grown)
    return g.model()


def projection(shape: Shape, model) -> onnx.ModelProto:
    """The first half of the oldest form: a hidden state to the 8 inputs of a frame."""
    form = Form(shape, model)
    form.g.name = "vocoder_projection"
    form.g.input("hidden_states", FLOAT, [form.batch, shape.hidden])
    form.project("hidden_states", "depth_hidden")
    form.g.output("depth_hidden", FLOAT, [form.batch, CODEBOOKS, shape.depth_dim])
    return form.g.model()


def split_form(shape: Shape, model) -> onnx.ModelProto:
    """The second half of the oldest form: the 8 inputs are given, the embedding of the last code is handed out."""
    form = Form(shape, model)
    g, (past, grown) = form.g, old_caches(form)
    g.input("depth_slices", FLOAT, [form.batch, CODEBOOKS, shape.depth_dim])
    g.input("step_idx", INT64, [])
    g.input("prev_token", INT64, [form.batch])
    g.input("past_keys", FLOAT, past)
    g.input("past_values", FLOAT, past)
    form.tables()
    x = form.step_input("depth_slices", "step_idx", form.token_embedding("step_idx", "prev_token"))
    attend, keys, values = plain_attention(form, "step_idx")
    form.logits(form.layers(x, attend), "step_idx")
    form.stack(keys, "new_keys"), form.stack(values, "new_values")
    g.output("token_embed", FLOAT, [form.batch, shape.depth_dim])
    g.output("new_keys", FLOAT, grown)
    g.output("new_values", FLOAT, grown)
    return g.model()
