"""The written graphs on ONNX Runtime's CPU provider, fed as their own inputs ask."""

from pathlib import Path

import numpy as np

from speech.runtime import session
from speech.shapes import HEAD_DIM

KINDS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class Text:
    def __init__(self, path: Path):
        self.graph = session(path)
        self.inputs = {value.name: value for value in self.graph.get_inputs()}
        self.outputs = [value.name for value in self.graph.get_outputs()]

    def start(self) -> None:
        named = {"batch_size": 1, "past_sequence_length": 0, "kv_cache_dim": HEAD_DIM}
        self.past = 0
        self.cache = {
            name: np.zeros([d if isinstance(d, int) else named[d] for d in value.shape], KINDS[value.type])
            for name, value in self.inputs.items()
            if name.startswith("past")
        }

    def step(self, ids: list[int]) -> np.ndarray:
        """Logits [V] behind the last of `ids`."""
        first, self.past = self.past, self.past + len(ids)
        feeds = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, self.past), np.int64),
            "position_ids": np.arange(first, self.past)[None],
        }
        feeds = {name: value for name, value in feeds.items() if name in self.inputs} | self.cache
        out = dict(zip(self.outputs, self.graph.run(None, feeds)))
        for name in self.cache:
            present = name.replace("past_key_values", "past").replace("past", "present", 1)
            self.cache[name] = out[present]
        return out["logits"][0, -1].astype(np.float32)

    def forced(self, prompt: list[int], ids: list[int]) -> np.ndarray:
        """Logits [n, V] along a given answer."""
        self.start()
        return np.stack([self.step(fed) for fed in [prompt, *([i] for i in ids[:-1])]])
