"""The tiny random models, made of the classes that liquid-audio and transformers run.

Promises: the same seed gives the same weights. Linear weights lie near a 4-bit grid, as those of a model trained to be
quantised do, so that the int4 exports of so small a network stay close to it. Norm weights and batch statistics are
random too: a reader that forgets one is wrong by far more than the tolerance.
"""

import torch
from torch import nn
from transformers import Lfm2Config, Lfm2Model

from liquid_audio.detokenizer import ISTFT, FusedEmbedding, LFM2AudioDetokenizer
from liquid_audio.model.conformer.encoder import ConformerEncoderConfig
from liquid_audio.model.lfm2_audio import DepthformerConfig, LFM2AudioConfig, LFM2AudioModel
from liquid_audio.model.transformer import MHA, RawLMBackbone, StandardBlock
from liquid_audio.processor import PreprocessorConfig

from .shapes import BLOCK, CODEBOOKS, STFT_BINS, Shape
from .tokenizer import BYTES, SPECIALS, UNUSED


def near_grid(weight: torch.Tensor, off_grid: float) -> torch.Tensor:
    """Moves a [out, in] weight towards the symmetric 4-bit grid of blocks of 32 inputs."""
    rows, columns = weight.shape
    padded = nn.functional.pad(weight, (0, -columns % BLOCK)).reshape(rows, -1, BLOCK)
    extreme = padded.gather(-1, padded.abs().argmax(-1, keepdim=True))
    scale = torch.where(extreme == 0, torch.ones_like(extreme), extreme / -8)
    grid = (padded / scale).round().clamp(-8, 7) * scale
    moved = grid + off_grid * (padded - grid)
    return moved.reshape(rows, -1)[:, :columns].contiguous()


def randomise(module: nn.Module, generator: torch.Generator, off_grid: float) -> None:
    for _, child in sorted(module.named_modules()):
        kind = type(child).__name__
        if isinstance(child, nn.Linear):
            weight = torch.randn(child.weight.shape, generator=generator) / child.in_features**0.5
            child.weight.copy_(near_grid(weight, off_grid))
            if child.bias is not None:
                child.bias.copy_(torch.randn(child.bias.shape, generator=generator) * 0.05)
        elif isinstance(child, (nn.Conv1d, nn.Conv2d)):
            fan_in = child.weight[0].numel()
            child.weight.copy_(torch.randn(child.weight.shape, generator=generator) * (1.5 / fan_in) ** 0.5)
            if child.bias is not None:
                child.bias.copy_(torch.randn(child.bias.shape, generator=generator) * 0.05)
        elif isinstance(child, nn.Embedding):
            child.weight.copy_(torch.randn(child.weight.shape, generator=generator) * 0.25)
        elif "Norm" in kind:
            if getattr(child, "weight", None) is not None:
                child.weight.copy_(1 + 0.1 * torch.randn(child.weight.shape, generator=generator))
            if getattr(child, "bias", None) is not None:
                child.bias.copy_(0.1 * torch.randn(child.bias.shape, generator=generator))
            if getattr(child, "running_mean", None) is not None:
                child.running_mean.copy_(0.1 * torch.randn(child.running_mean.shape, generator=generator))
                child.running_var.copy_(0.5 + torch.rand(child.running_var.shape, generator=generator))
        for parameter in ("pos_bias_u", "pos_bias_v"):
            if isinstance(getattr(child, parameter, None), nn.Parameter):
                value = getattr(child, parameter)
                value.copy_(0.1 * torch.randn(value.shape, generator=generator))


def speech_model(shape: Shape, seed: int) -> LFM2AudioModel:
    # The size of a codebook is a constant of the class.
    kind = type("TinySpeechModel", (LFM2AudioModel,), {"audio_vocab_size": shape.codebook_size})
    config = shape.checkpoint_config()
    config["preprocessor"] = PreprocessorConfig(**config["preprocessor"])
    config["encoder"] = ConformerEncoderConfig(**config["encoder"])
    config["lfm"] = Lfm2Config(**config["lfm"])
    config["depthformer"] = DepthformerConfig(**config["depthformer"])
    model = kind(LFM2AudioConfig(**config))
    # The constructor gives every depthformer 32 heads; one as narrow as this has to be put together by hand.
    blocks = [
        StandardBlock(
            MHA(shape.depth_dim, num_heads=shape.depth_heads, gqa_dim=shape.depth_kv_heads, max_seq_len=16),
            multiple_of=32,
        )
        for _ in range(shape.depth_layers)
    ]
    model.depthformer = RawLMBackbone(blocks, has_embedding=False)

    generator = torch.Generator().manual_seed(seed)
    randomise(model, generator, shape.off_grid)
    rows = model.lfm.embed_tokens.weight
    # As in a trained model, markers and bytes that begin no character are hardly ever the likeliest token.
    rows[:SPECIALS] *= 0.4
    rows[BYTES : BYTES + 256] *= 0.8
    rows[-UNUSED:] *= 0.4  # not likely enough for a greedy run, which masks nothing, to pick one
    # The backbone's head is the embedding table, so it is this table that has to survive rounding to 4 bits.
    rows.copy_(near_grid(rows, shape.off_grid))
    for tables in model.depth_embeddings:
        tables.embedding.weight.mul_(4 * shape.depth_dim**-0.5)
    return model.eval()


class Detokenizer(LFM2AudioDetokenizer):
    """liquid-audio's detokenizer at a width of choice; its own constructor knows 512 alone. `forward` is inherited."""

    def __init__(self, shape: Shape):
        nn.Module.__init__(self)
        width = shape.detokenizer_dim
        self.emb = FusedEmbedding(width, CODEBOOKS, shape.end_code)
        self.lfm = Lfm2Model(Lfm2Config(**shape.detokenizer()))
        self.lin = nn.Linear(width, 2 * STFT_BINS)
        self.istft = ISTFT(1280, 320, 1280, padding="same")
        self.sliding_window_size = shape.detokenizer_window


def detokenizer(shape: Shape) -> Detokenizer:
    model = Detokenizer(shape)
    generator = torch.Generator().manual_seed(shape.seed + 1)
    randomise(model, generator, shape.off_grid)
    model.emb.emb.weight.mul_(8)  # the mean over the codebooks is taken of it
    model.lin.weight[:STFT_BINS] *= 0.5
    model.lin.bias[:STFT_BINS] += 0.5  # log magnitudes that keep the samples within -1..1
    model.lin.weight[STFT_BINS:] *= 2.0  # phases that go all the way round
    return model.eval()
