"""The tiny random encoders: transformers' causal `Lfm2Model`, and the form that attends in both directions.

Promises: the same seed gives the same weights. transformers has no class for the second form; `Bidirectional` follows
the published one's code: no causal mask, convolutions padded on both sides, masked positions not zeroed before them.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import Lfm2Config, Lfm2Model
from transformers.models.lfm2.modeling_lfm2 import Lfm2ShortConv

from speech import tokenizer
from speech.shapes import HEAD_DIM, VOCAB


@dataclass(frozen=True)
class Shape:
    name: str
    seed: int
    hidden: int
    layer_types: tuple[str, ...]
    width: int  # of a token's vector
    both_directions: bool

    def config(self) -> dict:
        return {
            "architectures": ["Lfm2BidirectionalModel" if self.both_directions else "Lfm2Model"],
            "model_type": "lfm2",
            "vocab_size": VOCAB,
            "hidden_size": self.hidden,
            "num_hidden_layers": len(self.layer_types),
            "num_attention_heads": self.hidden // HEAD_DIM,
            "num_key_value_heads": 1,
            "head_dim": HEAD_DIM,
            "layer_types": list(self.layer_types),
            "intermediate_size": 2 * self.hidden,
            "block_auto_adjust_ff_dim": False,
            "conv_L_cache": 3,
            "conv_bias": False,
            "norm_eps": 1e-5,
            "max_position_embeddings": 1024,
            "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"},
            "bos_token_id": 1,
            "eos_token_id": 7,
            "pad_token_id": 0,
        }


CAUSAL = Shape("colbert-causal", 20251101, 32, ("conv", "full_attention", "conv", "full_attention"), 16, False)
BOTH = Shape("colbert-both", 20251102, 48, ("conv", "conv", "full_attention"), 24, True)


class SymmetricConv(Lfm2ShortConv):
    def forward(self, hidden_states, **_):
        b, c, x = self.in_proj(hidden_states).transpose(-1, -2).chunk(3, dim=-2)
        side = (self.conv_kernel_size - 1) // 2
        mixed = nn.functional.conv1d(b * x, self.conv.weight, self.conv.bias, padding=side, groups=x.shape[1])
        return self.out_proj((c * mixed).transpose(-1, -2))


class Bidirectional(Lfm2Model):
    def __init__(self, config: Lfm2Config):
        super().__init__(config)
        for index, layer in enumerate(self.layers):
            if not layer.is_attention_layer:
                layer.conv = SymmetricConv(config, index)

    def forward(self, input_ids=None, attention_mask=None, **_):
        hidden = self.embed_tokens(input_ids)
        positions = torch.arange(input_ids.shape[1]).unsqueeze(0)
        rotary = self.rotary_emb(hidden, position_ids=positions)
        hidden_from = (1.0 - attention_mask[:, None, None, :].to(hidden.dtype)) * torch.finfo(hidden.dtype).min
        mask = hidden_from.expand(-1, 1, input_ids.shape[1], -1)
        for layer in self.layers:
            hidden = layer(hidden, attention_mask=mask, position_embeddings=rotary)
        return (self.embedding_norm(hidden),)


def write(folder: Path, shape: Shape) -> None:
    """A checkpoint folder as pylate loads one: configuration, weights, tokenizer."""
    torch.manual_seed(shape.seed)
    model = Lfm2Model(Lfm2Config(**shape.config())).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name:
                value.copy_(1 + 0.1 * torch.randn(value.shape))
            elif "embed_tokens" in name:
                value.copy_(0.5 * torch.randn(value.shape))
            else:
                value.copy_(torch.randn(value.shape) * (value[0].numel()) ** -0.5)
    model.save_pretrained(folder)
    tokenizer.write(folder)
    (folder / "config.json").write_text(json.dumps(shape.config()))
