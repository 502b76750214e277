"""The LFM2 backbone, written for training on a processor: the parameters carry the names of transformers' Lfm2Model.

Causal, right-padded batches, no cache. `window` limits attention to that many positions, as the detokenizer's does.
tests/test_parity.py holds it to the reference.
"""

import torch
import torch.nn.functional as F
from torch import nn

EPS, THETA, KERNEL = 1e-5, 1e6, 3


class Norm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), EPS)


class ShortConv(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.in_proj = nn.Linear(width, 3 * width, bias=False)
        self.conv = nn.Conv1d(width, width, KERNEL, groups=width, bias=False)
        self.out_proj = nn.Linear(width, width, bias=False)

    def forward(self, x, _):
        gate_in, gate_out, x = self.in_proj(x).chunk(3, -1)
        x = gate_in * x
        # Three shifted products: a depthwise convolution has no fast backward pass on a processor.
        taps = self.conv.weight[:, 0].to(x.dtype).T
        mixed = x * taps[2] + F.pad(x[:, :-1], (0, 0, 1, 0)) * taps[1] + F.pad(x[:, :-2], (0, 0, 2, 0)) * taps[0]
        return self.out_proj(gate_out * mixed)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, kv_heads: int):
        super().__init__()
        self.heads, self.kv_heads, self.size = heads, kv_heads, width // heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, kv_heads * self.size, bias=False)
        self.v_proj = nn.Linear(width, kv_heads * self.size, bias=False)
        self.out_proj = nn.Linear(width, width, bias=False)
        self.q_layernorm = Norm(self.size)
        self.k_layernorm = Norm(self.size)

    def forward(self, x, place):
        (cos, sin), mask = place
        batch, length, width = x.shape
        q = self.q_layernorm(self.q_proj(x).view(batch, length, self.heads, self.size)).transpose(1, 2)
        k = self.k_layernorm(self.k_proj(x).view(batch, length, self.kv_heads, self.size)).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, self.kv_heads, self.size).transpose(1, 2)
        q, k = turn(q, cos, sin).to(v.dtype), turn(k, cos, sin).to(v.dtype)
        shared = self.heads // self.kv_heads
        k, v = k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)
        # By hand: on a processor the fused attention's backward pass costs three times as much at these lengths.
        scores = ((q @ k.mT).float() * self.size**-0.5).masked_fill(mask, -1e9)
        y = scores.softmax(-1).to(v.dtype) @ v
        return self.out_proj(y.transpose(1, 2).reshape(batch, length, width))


def turn(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


class Feed(nn.Module):
    def __init__(self, width: int, inner: int):
        super().__init__()
        self.w1 = nn.Linear(width, inner, bias=False)
        self.w3 = nn.Linear(width, inner, bias=False)
        self.w2 = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Layer(nn.Module):
    def __init__(self, kind: str, width: int, inner: int, heads: int, kv_heads: int):
        super().__init__()
        if kind == "c":
            self.conv = ShortConv(width)
        else:
            self.self_attn = Attention(width, heads, kv_heads)
        self.feed_forward = Feed(width, inner)
        self.operator_norm = Norm(width)
        self.ffn_norm = Norm(width)

    def forward(self, x, place):
        operator = self.conv if hasattr(self, "conv") else self.self_attn
        x = x + operator(self.operator_norm(x), place)
        return x + self.feed_forward(self.ffn_norm(x))


class Lfm2(nn.Module):
    """`plan` is one letter a layer: c for a short convolution, a for attention."""

    def __init__(self, plan: str, width: int, inner: int, heads: int, kv_heads: int, vocabulary: int = 0, window: int = 0):
        super().__init__()
        self.plan, self.width, self.inner, self.heads, self.kv_heads, self.window = plan, width, inner, heads, kv_heads, window
        if vocabulary:
            self.embed_tokens = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Layer(kind, width, inner, heads, kv_heads) for kind in plan)
        self.embedding_norm = Norm(width)
        self.apply(self.start)
        for layer in self.layers:
            operator = layer.conv if hasattr(layer, "conv") else layer.self_attn
            for weight in (operator.out_proj.weight, layer.feed_forward.w2.weight):
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5 / (2 * len(plan)) ** 0.5)

    @staticmethod
    def start(module):
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.weight.shape[1] ** -0.5)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.weight.shape[1] ** -0.5)
        elif isinstance(module, nn.Conv1d):
            nn.init.normal_(module.weight, std=KERNEL**-0.5)

    def place(self, length: int, device):
        size = self.width // self.heads
        rate = THETA ** (-torch.arange(0, size, 2, device=device) / size)
        angle = torch.arange(length, device=device)[:, None] * torch.cat((rate, rate))[None]
        back = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
        hidden = (back < 0) | (back >= self.window) if self.window else back < 0
        return (angle.cos(), angle.sin()), hidden

    def forward(self, x):
        place = self.place(x.shape[1], x.device)
        for layer in self.layers:
            x = layer(x, place)
        return self.embedding_norm(x)

    def config(self) -> dict:
        """The keys of transformers' Lfm2Config that describe this model."""
        return {"hidden_size": self.width, "intermediate_size": self.inner, "block_auto_adjust_ff_dim": False, "num_hidden_layers": len(self.plan),
                "layer_types": ["conv" if kind == "c" else "full_attention" for kind in self.plan], "num_attention_heads": self.heads,
                "num_key_value_heads": self.kv_heads, "conv_L_cache": KERNEL, "conv_bias": False, "norm_eps": EPS,
                "rope_parameters": {"rope_type": "default", "rope_theta": THETA}}
