"""The two tiny checkpoints: configurations in transformers' own terms."""

from dataclasses import dataclass

from speech.shapes import HEAD_DIM, VOCAB

CONTEXT = 512


@dataclass(frozen=True)
class Shape:
    name: str
    seed: int
    hidden: int
    heads: int
    kv_heads: int
    layer_types: tuple[str, ...]
    feed_forward: int
    experts: int = 0  # none in a dense model
    experts_per_token: int = 0
    expert_width: int = 0
    dense_layers: int = 0  # layers before the first mixture

    def config(self) -> dict:
        common = {
            "vocab_size": VOCAB,
            "hidden_size": self.hidden,
            "intermediate_size": self.feed_forward,
            "num_hidden_layers": len(self.layer_types),
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": HEAD_DIM,
            "layer_types": list(self.layer_types),
            "conv_L_cache": 3,
            "conv_bias": False,
            "norm_eps": 1e-5,
            "max_position_embeddings": CONTEXT,
            "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"},
            "tie_word_embeddings": True,
            "bos_token_id": 1,
            "eos_token_id": 7,
            "pad_token_id": 0,
        }
        if not self.experts:
            return common | {"block_auto_adjust_ff_dim": False}
        return common | {
            "moe_intermediate_size": self.expert_width,
            "num_experts": self.experts,
            "num_experts_per_tok": self.experts_per_token,
            "num_dense_layers": self.dense_layers,
            "use_expert_bias": True,
            "norm_topk_prob": True,
            "routed_scaling_factor": 1.0,
        }


LAYERS = ("conv", "full_attention", "conv", "full_attention")

DENSE = Shape("text", 20260101, hidden=32, heads=2, kv_heads=1, layer_types=LAYERS, feed_forward=64)
MIXTURE = Shape(
    "moe",
    20260201,
    hidden=32,
    heads=2,
    kv_heads=1,
    layer_types=LAYERS,
    feed_forward=64,
    experts=4,
    experts_per_token=2,
    expert_width=32,
    dense_layers=1,
)
