"""The audio encoder graph: liquid-audio's conformer and adapter, exported by tracing."""

import io

import onnx
import torch
from torch import nn


class Encoder(nn.Module):
    """Mel features in the order of time to decoder inputs."""

    def __init__(self, model):
        super().__init__()
        self.conformer, self.adapter = model.conformer, model.audio_adapter

    def forward(self, mel_spectrogram, mel_lengths):
        encoded, lengths = self.conformer(mel_spectrogram.transpose(1, 2), mel_lengths)
        return self.adapter(encoded.transpose(1, 2)), lengths


def build(model) -> onnx.ModelProto:
    target = io.BytesIO()
    frames = 200
    torch.onnx.export(
        Encoder(model).eval(),
        (torch.randn(1, frames, 128, generator=torch.Generator().manual_seed(0)), torch.tensor([frames])),
        target,
        input_names=["mel_spectrogram", "mel_lengths"],
        output_names=["audio_embeddings", "audio_lengths"],
        dynamic_axes={"mel_spectrogram": {1: "frames"}, "audio_embeddings": {1: "rows"}},
        opset_version=18,
        dynamo=False,
    )
    return onnx.load_from_string(target.getvalue())
