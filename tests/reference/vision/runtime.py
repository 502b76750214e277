"""The written graphs on ONNX Runtime's CPU provider: entries to features, features among embeddings, logits along an answer."""

from pathlib import Path

import numpy as np

from speech.runtime import session
from text.runtime import KINDS, Text

from .shapes import IMAGE_TOKEN


class Vision(Text):
    def __init__(self, decoder: Path, encoder: Path, embedding: Path):
        super().__init__(decoder)
        self.encoder, self.lookup = session(encoder), session(embedding)

    def features(self, entries: list[np.ndarray], sizes: list[list[int]]) -> np.ndarray:
        """Rows of all entries [image tokens, H]. One entry a run, as the graphs want it."""
        rows = []
        for values, size in zip(entries, sizes):
            mask = np.ones((1, len(values)), np.int64)
            feeds = {"pixel_values": values[None], "pixel_attention_mask": mask, "spatial_shapes": np.array([size], np.int64)}
            out = self.encoder.run(None, feeds)[0]
            rows.append(out.reshape(-1, out.shape[-1]))
        return np.concatenate(rows).astype(np.float32)

    def embed(self, ids: list[int], features: np.ndarray) -> np.ndarray:
        """Embeddings [1, n, H]: layout C's graph puts the features in place, those of the others are put there here."""
        feeds = {"input_ids": np.array([ids], np.int64)}
        if len(self.lookup.get_inputs()) == 2:
            return self.lookup.run(None, feeds | {"image_features": features})[0]
        rows = self.lookup.run(None, feeds)[0].astype(np.float32)
        rows[0, np.array(ids) == IMAGE_TOKEN] = features
        return rows

    def forced(self, prompt: list[int], ids: list[int], features: np.ndarray) -> np.ndarray:
        """Logits [n, V] along a given answer."""
        self.start()
        self.given = features
        return np.stack([self.step(fed) for fed in [prompt, *([i] for i in ids[:-1])]])

    def step(self, ids: list[int]) -> np.ndarray:
        features = self.given if IMAGE_TOKEN in ids else self.given[:0]
        rows, self.past = self.embed(ids, features), self.past + len(ids)
        kind = KINDS[self.inputs["inputs_embeds"].type]
        feeds = {"inputs_embeds": rows.astype(kind), "attention_mask": np.ones((1, self.past), np.int64)} | self.cache
        out = dict(zip(self.outputs, self.graph.run(None, feeds)))
        for name in self.cache:
            present = name.replace("past_key_values", "past").replace("past", "present", 1)
            self.cache[name] = out[present]
        return out["logits"][0, -1].astype(np.float32)
