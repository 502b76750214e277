"""pylate's own model around a tiny checkpoint. Everything that is recorded comes out of its `tokenize` and `encode`."""

import tempfile
from pathlib import Path

import torch
from pylate import models

from . import checkpoint
from .checkpoint import Shape


def load(shape: Shape, **knobs) -> models.ColBERT:
    """The model of `shape` with pylate's knobs, such as `query_length`. The Dense head is seeded like the rest."""
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint.write(Path(scratch), shape)
        torch.manual_seed(shape.seed + 1)
        model = models.ColBERT(scratch, embedding_size=shape.width, device="cpu", **knobs)
    transformer = model[0]
    if shape.both_directions:
        both = checkpoint.Bidirectional(transformer.auto_model.config).eval()
        both.load_state_dict(transformer.auto_model.state_dict())
        transformer.auto_model = both
    # The rows that pylate adds for the prefixes start as the mean of all others and would be told apart by nothing.
    torch.manual_seed(shape.seed + 2)
    with torch.no_grad():
        rows = transformer.auto_model.embed_tokens.weight
        rows[-2:] = 0.5 * torch.randn(rows[-2:].shape)
    return model.eval()
