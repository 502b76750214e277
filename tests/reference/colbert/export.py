"""Folders as pylate-onnx-export writes them: one traced graph, the tokenizer, the knobs.

`output` holds normalised vectors of the head's width. A folder with `head=False` is an export that stops at the
backbone: `last_hidden_state`, with the head beside it as sentence-transformers stores it.
"""

import json
import shutil
import tempfile
from pathlib import Path

import onnx
import torch
from torch import nn

from .checkpoint import Shape


class Encoder(nn.Module):
    def __init__(self, model, head: bool):
        super().__init__()
        self.backbone, self.dense = model[0].auto_model, model[1].linear if head else None

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)[0]
        if self.dense is None:
            return hidden
        vectors = nn.functional.normalize(self.dense(hidden), p=2, dim=-1)
        # Graphs of models that once had segments keep the input; it has to be used to survive the export.
        return vectors if token_type_ids is None else vectors + token_type_ids.to(vectors.dtype).sum() * 0


def graph(model, path: Path, head: bool, segments: bool) -> None:
    ids = torch.tensor([[1, 1016, 700, 701, 702], [1, 1016, 703, 7, 7]])
    # A mask with a zero in it: without one the trace would leave the masking out.
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    inputs, names = (ids, mask), ["input_ids", "attention_mask"]
    if segments:
        inputs, names = (*inputs, torch.zeros_like(ids)), [*names, "token_type_ids"]
    output = "output" if head else "last_hidden_state"
    axes = {name: {0: "batch_size", 1: "sequence_length"} for name in [*names, output]}
    torch.onnx.export(
        Encoder(model, head), inputs, str(path), input_names=names, output_names=[output], dynamic_axes=axes,
        opset_version=14, dynamo=False,
    )  # fmt: skip
    written = onnx.load(str(path))
    for node in written.graph.node:
        node.ClearField("doc_string")
    path.write_bytes(written.SerializeToString(deterministic=True))


def folder(out: Path, shape: Shape, model, head: bool = True, segments: bool = False) -> None:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch)
        saved = Path(scratch)
        settings = json.loads((saved / "config_sentence_transformers.json").read_text())
        shutil.copy(saved / "tokenizer.json", out / "tokenizer.json")
        if not head:
            (out / "1_Dense").mkdir()
            for name in ("config.json", "model.safetensors"):
                shutil.copy(saved / "1_Dense" / name, out / "1_Dense" / name)
    # What the exporter adds to pylate's own file.
    settings |= {
        "embedding_dim": shape.width,
        "mask_token_id": model.tokenizer.pad_token_id,
        "pad_token_id": model.tokenizer.pad_token_id,
        "query_prefix_id": model.query_prefix_id,
        "document_prefix_id": model.document_prefix_id,
    }
    settings.pop("__version__", None)
    (out / "config_sentence_transformers.json").write_text(json.dumps(settings, indent=2) + "\n")
    config = shape.config() | {"vocab_size": model[0].auto_model.embed_tokens.num_embeddings}
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    graph(model, out / "model.onnx", head, segments)
