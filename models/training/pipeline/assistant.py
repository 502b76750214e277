"""The whole model: ear and adapter, LFM2 backbone with its text table, audio embedding, depthformer.

Parameter names follow liquid-audio's LFM2AudioModel (`lfm`, `audio_adapter`, `audio_embedding`, `depth_linear`,
`depthformer`, `depth_embeddings`), except inside the ear. A codebook has 257 rows here: 256 codes and the end of the audio.
"""

import torch
import torch.nn.functional as F
from torch import nn

from . import tokens
from .encoder import WIDTH as EAR_WIDTH
from .encoder import Speller
from .lfm2 import Feed, Lfm2, Norm
from .train import mixed

WIDTH, INNER, HEADS, KV_HEADS, PLAN = 256, 640, 8, 4, "ccacac"
CODEBOOKS, ROWS, END = 8, 257, 256
DEPTH, DEPTH_INNER, DEPTH_LAYERS, DEPTH_HEADS, DEPTH_KV = 128, 384, 2, 8, 4
DEPTH_THETA = 1e6


class DepthOperator(nn.Module):
    """Attention over the codebooks of one frame, rotary in neighbouring pairs as liquid-audio turns it."""

    def __init__(self):
        super().__init__()
        self.size = DEPTH // DEPTH_HEADS
        self.qkv_proj = nn.Linear(DEPTH, DEPTH + 2 * DEPTH_KV * self.size, bias=False)
        self.out_proj = nn.Linear(DEPTH, DEPTH, bias=False)
        self.bounded_attention = nn.ModuleDict({"q_layernorm": Norm(self.size), "k_layernorm": Norm(self.size)})

    def forward(self, x):
        count, length, _ = x.shape
        q, k, v = self.qkv_proj(x).split((DEPTH, DEPTH_KV * self.size, DEPTH_KV * self.size), -1)
        q = self.bounded_attention["q_layernorm"](q.view(count, length, DEPTH_HEADS, self.size)).transpose(1, 2)
        k = self.bounded_attention["k_layernorm"](k.view(count, length, DEPTH_KV, self.size)).transpose(1, 2)
        v = v.view(count, length, DEPTH_KV, self.size).transpose(1, 2)
        rate = DEPTH_THETA ** (-torch.arange(0, self.size, 2, device=x.device) / self.size)
        angle = torch.arange(length, device=x.device)[:, None] * rate
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        q, k = turn_pairs(q, cos, sin), turn_pairs(k, cos, sin)
        shared = DEPTH_HEADS // DEPTH_KV
        k, v = k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)
        scores = (q @ k.mT).float() * self.size**-0.5
        scores = scores.masked_fill(torch.ones(length, length, device=x.device).triu(1).bool(), -1e9)
        y = scores.softmax(-1).to(v.dtype) @ v
        return self.out_proj(y.transpose(1, 2).reshape(count, length, DEPTH))


def turn_pairs(x, cos, sin):
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class DepthLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.operator, self.feed_forward = DepthOperator(), Feed(DEPTH, DEPTH_INNER)
        self.operator_norm, self.ffn_norm = Norm(DEPTH), Norm(DEPTH)

    def forward(self, x):
        x = x + self.operator(self.operator_norm(x))
        return x + self.feed_forward(self.ffn_norm(x))


class Codes(nn.Module):
    """liquid-audio's SharedEmbedding, tied: a codebook's rows, and the norm before they are used as the output layer."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(ROWS, DEPTH)
        self.embedding_norm = Norm(DEPTH)

    def logits(self, x):
        return F.linear(self.embedding_norm(x), self.embedding.weight)


class Assistant(nn.Module):
    def __init__(self):
        super().__init__()
        self.ear = Speller()
        self.audio_adapter = nn.ModuleDict({"model": nn.Sequential(nn.LayerNorm(EAR_WIDTH), nn.Linear(EAR_WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))})
        self.lfm = Lfm2(PLAN, WIDTH, INNER, HEADS, KV_HEADS, vocabulary=tokens.ROWS)
        self.audio_embedding = nn.ModuleDict({"embedding": nn.Embedding(CODEBOOKS * ROWS, WIDTH)})
        self.depth_linear = nn.Linear(WIDTH, CODEBOOKS * DEPTH)
        self.depthformer = nn.ModuleDict({"layers": nn.ModuleList(DepthLayer() for _ in range(DEPTH_LAYERS))})
        self.depth_embeddings = nn.ModuleList(Codes() for _ in range(CODEBOOKS))
        self.register_buffer("codebook_offsets", torch.arange(CODEBOOKS) * ROWS)
        nn.init.normal_(self.audio_embedding["embedding"].weight, std=0.5 * WIDTH**-0.5)
        for module in [*self.depthformer.modules(), *self.depth_embeddings.modules()]:
            Lfm2.start(module)
        nn.init.normal_(self.depth_linear.weight, std=WIDTH**-0.5)
        nn.init.zeros_(self.depth_linear.bias)

    def hear(self, frames, lengths):
        rows, counts = self.ear.encoder(frames, lengths)
        return self.audio_adapter["model"](rows), counts

    def embed(self, batch, heard=None):
        """[B, L, width] of a batch (examples.Batch); `heard` holds the ear's rows for its audio positions, in order."""
        x = self.lfm.embed_tokens(batch.text)
        where = batch.kind == 2
        if where.any():
            x = x.masked_scatter(where[..., None], self.audio_embedding["embedding"](batch.codes[where] + self.codebook_offsets).sum(-2).to(x.dtype))
        if heard is not None:
            x = x.masked_scatter((batch.kind == 1)[..., None], heard.to(x.dtype))
        return x

    def depth_logits(self, hidden, codes):
        """[N, width] and the true codes [N, 8] to logits [N, 8, 257], each codebook knowing those before it."""
        x = self.depth_linear(hidden).view(-1, CODEBOOKS, DEPTH)
        # Step i is told code i - 1 through the table of codebook i - 1.
        before = torch.stack([self.depth_embeddings[i].embedding(codes[:, i]) for i in range(CODEBOOKS - 1)], 1)
        x = x + F.pad(before, (0, 0, 1, 0)).to(x.dtype)
        for layer in self.depthformer["layers"]:
            x = layer(x)
        return torch.stack([self.depth_embeddings[i].logits(x[:, i]) for i in range(CODEBOOKS)], 1)

    def forward(self, batch, heard=None):
        """Text logits at the positions with a text target, code logits at those with an audio target."""
        hidden = self.lfm(self.embed(batch, heard))
        text = F.linear(hidden[batch.next_text >= 0], self.lfm.embed_tokens.weight)
        spoken = batch.speaks
        codes = self.depth_logits(hidden[spoken], batch.next_codes[spoken]) if spoken.any() else None
        return text, codes

    def losses(self, batch, heard=None):
        """Text and audio cost with their accuracies. The first codebook weighs four times, as it decides the rest."""
        with mixed():
            text, codes = self(batch, heard)
        target = batch.next_text[batch.next_text >= 0]
        text_cost = F.cross_entropy(text.float(), target)
        figures = {"text": text_cost.detach(), "text_right": (text.argmax(-1) == target).float().mean()}
        audio_cost = text_cost.new_zeros(())
        if codes is not None:
            target = batch.next_codes[batch.speaks]
            cost = F.cross_entropy(codes.float().flatten(0, 1), target.flatten(), reduction="none").view(-1, CODEBOOKS)
            weight = torch.tensor([4.0, *[1.0] * (CODEBOOKS - 1)], device=cost.device)
            audio_cost = (cost * weight).sum(-1).mean() / weight.sum()
            right = (codes.argmax(-1) == target).float()
            figures |= {"codes": cost.detach().mean(), "code0_right": right[:, 0].mean(), "codes_right": right.mean()}
        return text_cost, audio_cost, figures
