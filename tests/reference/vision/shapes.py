"""The sizes of the tiny model, and the settings of its image processor.

The knobs differ from the published ones (tiles of 64 instead of 512 pixels, 4 to 16 tokens instead of 64 to 256), so that
a reader that assumes is caught and tiled images stay small. `PUBLISHED` has the published ones.
"""

from dataclasses import dataclass

from speech.shapes import HEAD_DIM, VOCAB
from text.shapes import LAYERS

CONTEXT = 512
IMAGE_TOKEN = 396


@dataclass(frozen=True)
class Shape:
    name: str
    seed: int
    hidden: int
    heads: int
    kv_heads: int
    layer_types: tuple[str, ...]
    feed_forward: int
    vision_hidden: int
    vision_heads: int
    vision_layers: int
    vision_feed_forward: int
    projector: int
    side: int  # of the grid of positions, in patches; images that are thinner see it interpolated down

    def lfm(self) -> dict:
        return {
            "vocab_size": VOCAB,
            "hidden_size": self.hidden,
            "intermediate_size": self.feed_forward,
            "num_hidden_layers": len(self.layer_types),
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": HEAD_DIM,
            "layer_types": list(self.layer_types),
            "block_auto_adjust_ff_dim": False,
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

    def vision(self) -> dict:
        return {
            "model_type": "siglip2_vision_model",
            "hidden_size": self.vision_hidden,
            "intermediate_size": self.vision_feed_forward,
            "num_hidden_layers": self.vision_layers,
            "num_attention_heads": self.vision_heads,
            "num_patches": self.side**2,
            "patch_size": 16,
            "vision_use_head": False,
        }


TINY = Shape(
    name="vision",
    seed=20260301,
    hidden=32,
    heads=2,
    kv_heads=1,
    layer_types=LAYERS,
    feed_forward=64,
    vision_hidden=32,
    vision_heads=2,
    vision_layers=2,
    vision_feed_forward=48,
    projector=64,
    side=4,
)

PUBLISHED = {
    "do_image_splitting": True,
    "do_normalize": True,
    "do_pad": True,
    "do_rescale": True,
    "do_resize": True,
    "downsample_factor": 2,
    "encoder_patch_size": 16,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "max_image_tokens": 256,
    "max_pixels_tolerance": 2.0,
    "max_tiles": 10,
    "min_image_tokens": 64,
    "min_tiles": 2,
    "resample": 2,
    "rescale_factor": 1 / 255,
    "return_row_col_info": True,
    "tile_size": 512,
    "use_thumbnail": True,
}
PROCESSOR = PUBLISHED | {
    "max_image_tokens": 16,
    "min_image_tokens": 4,
    "tile_size": 64,
    "max_tiles": 6,
    "image_mean": [0.5, 0.45, 0.4],
    "image_std": [0.5, 0.3, 0.25],
}
