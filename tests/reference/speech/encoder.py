"""The audio encoder graph: liquid-audio's conformer and adapter, exported by tracing."""

import io

import onnx
import torch
from torch import nn

from .shapes import Shape


class Encoder(nn.Module):
    """Mel features in the order of time to decoder inputs."""

    def __init__(self, model):
        super().__init__()
        self.conformer, self.adapter = model.conformer, model.audio_adapter

    def forward(self, mel_spectrogram, mel_lengths):
        encoded, lengths = self.conformer(mel_spectrogram.transpose(1, 2), mel_lengths)
        return self.adapter(encoded.transpose(1, 2)), lengths


def build(shape: Shape, model) -> onnx.ModelProto:
    target = io.BytesIO()
    # The positional table has grown with the clips the model has met. Back to what the configuration says.
    conformer = model.conformer
    del conformer.pos_enc.pe
    conformer.set_max_audio_length(shape.encoder_rows)
    frames = shape.encoder_rows
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
    return slim(onnx.load_from_string(target.getvalue()))


def slim(model: onnx.ModelProto) -> onnx.ModelProto:
    """Short names, no notes on the Python source: two thirds of so small a file, used by nobody."""
    graph = model.graph
    kept = {value.name for value in [*graph.input, *graph.output]} | {tensor.name for tensor in graph.initializer}
    names = {"": ""}
    for index, node in enumerate(graph.node):
        node.ClearField("doc_string")
        del node.metadata_props[:]
        node.name = f"{node.op_type}_{index}"
        for place, output in enumerate(node.output):
            if output and output not in kept:
                names[output] = f"v{index}" if place == 0 else f"v{index}_{place}"
        assert not any(a.type in (a.GRAPH, a.GRAPHS) for a in node.attribute), "a branch has names of its own"
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    del graph.value_info[:]
    return model
