"""The sizes of the two tiny models, and the configuration files a checkpoint of each would carry.

Model A has the published numbers wherever a reader may be tempted to assume them (8 codebooks of 2049, 6 text tokens,
12 audio frames). Model C has other ones everywhere, so that a reader that assumes is caught.
"""

from dataclasses import dataclass

HEAD_DIM = 16  # the CPU GroupQueryAttention kernel takes multiples of 16 alone
VOCAB = 1024
CODEBOOKS = 8
STFT_BINS = 641
BLOCK = 32  # weights per int4 block

PREPROCESSOR = {
    "sample_rate": 16000,
    "normalize": "per_feature",
    "window_size": 0.025,
    "window_stride": 0.01,
    "window": "hann",
    "features": 128,
    "n_fft": 512,
    "log": True,
    "frame_splicing": 1,
    "dither": 1e-05,
    "pad_to": 0,
    "pad_value": 0.0,
}

MEL_CONFIG = {
    "sample_rate": 16000,
    "n_fft": 512,
    "win_length": 400,
    "hop_length": 160,
    "n_mels": 128,
    "fmin": 0,
    "fmax": 8000,
    "preemph": 0.97,
    "log_zero_guard": 2.0**-24,
    "normalize": "per_feature",
    "mel_norm": "slaney",
}


@dataclass(frozen=True)
class Shape:
    name: str
    seed: int
    hidden: int
    heads: int
    kv_heads: int
    layer_types: tuple[str, ...]
    feed_forward: int
    codebook_size: int  # the last code ends the speech
    n_text: int
    n_audio: int
    depth_dim: int
    depth_layers: int
    depth_kv_heads: int
    encoder_dim: int
    encoder_layers: int
    encoder_rows: int  # the longest clip, in encoder rows of 80 ms
    detokenizer_dim: int
    off_grid: float = 0.25  # how far weights lie from the 4-bit grid, as a part of what rounding would remove
    detokenizer_window: int = 30
    keeps_features: bool = True  # whether the answer's STFT features are kept, a megabyte, or its samples alone

    @property
    def end_code(self) -> int:
        return self.codebook_size - 1

    @property
    def depth_heads(self) -> int:
        return self.depth_dim // HEAD_DIM

    def lfm(self) -> dict:
        return {
            "architectures": ["Lfm2ForCausalLM"],
            "model_type": "lfm2",
            "vocab_size": VOCAB,
            "hidden_size": self.hidden,
            "num_hidden_layers": len(self.layer_types),
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": HEAD_DIM,
            "layer_types": list(self.layer_types),
            "intermediate_size": self.feed_forward,
            "block_auto_adjust_ff_dim": False,
            "block_multiple_of": 32,
            "block_ffn_dim_multiplier": 1.0,
            "conv_L_cache": 3,
            "conv_bias": False,
            "norm_eps": 1e-5,
            "max_position_embeddings": 1024,
            "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"},
            "tie_word_embeddings": True,
            "bos_token_id": 1,
            "eos_token_id": 7,
            "pad_token_id": 0,
        }

    def encoder(self) -> dict:
        return {
            "feat_in": 128,
            "feat_out": -1,
            "n_layers": self.encoder_layers,
            "d_model": self.encoder_dim,
            "subsampling": "dw_striding",
            "subsampling_factor": 8,
            "subsampling_conv_channels": 32,
            "causal_downsampling": False,
            "reduction": None,
            "reduction_position": None,
            "reduction_factor": 1,
            "ff_expansion_factor": 4,
            "self_attention_model": "rel_pos",
            "n_heads": 4,
            "att_context_size": [-1, -1],
            "xscaling": False,
            "untie_biases": True,
            "pos_emb_max_len": self.encoder_rows,
            "conv_kernel_size": 9,
            "conv_norm_type": "batch_norm",
            "conv_context_size": None,
            "dropout": 0.1,
            "dropout_pre_encoder": 0.1,
            "dropout_emb": 0.0,
            "dropout_att": 0.1,
        }

    def checkpoint_config(self) -> dict:
        return {
            "architectures": ["Lfm2AudioForConditionalGeneration"],
            "codebooks": CODEBOOKS,
            "tie_audio_embeddings": False,
            "semantic_codebook_factor": 100,
            "codebook_weight": "log",
            "interleaved_n_text": self.n_text,
            "interleaved_n_audio": self.n_audio,
            "preprocessor": PREPROCESSOR,
            "encoder": self.encoder(),
            "lfm": self.lfm(),
            "depthformer": {"layers": self.depth_layers, "dim": self.depth_dim, "tie": True},
        }

    def detokenizer(self) -> dict:
        return {
            **self.lfm(),
            "vocab_size": 8,
            "pad_token_id": None,
            "hidden_size": self.detokenizer_dim,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "layer_types": ["conv", "full_attention", "conv"],
            "intermediate_size": 2 * self.detokenizer_dim,
            "sliding_window": self.detokenizer_window,
        }


A = Shape(
    name="speech-a",
    seed=20250103,
    hidden=32,
    heads=4,
    kv_heads=2,
    layer_types=("conv", "full_attention", "conv", "full_attention"),
    feed_forward=64,
    codebook_size=2049,
    n_text=6,
    n_audio=12,
    depth_dim=32,
    depth_layers=2,
    depth_kv_heads=2,
    encoder_dim=32,
    encoder_layers=2,
    encoder_rows=128,
    detokenizer_dim=16,
)

C = Shape(
    name="speech-c",
    seed=20260902,
    hidden=64,
    heads=4,
    kv_heads=2,
    layer_types=("conv", "conv", "full_attention", "conv", "full_attention"),
    feed_forward=96,
    codebook_size=65,
    n_text=4,
    n_audio=7,
    depth_dim=32,
    depth_layers=2,
    depth_kv_heads=1,
    encoder_dim=32,
    encoder_layers=1,
    encoder_rows=96,
    detokenizer_dim=32,
    off_grid=0.1,
    keeps_features=False,
)
