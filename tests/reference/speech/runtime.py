"""The same answers from the written graphs, on ONNX Runtime's CPU provider.

Owns the proof that the graphs are right: nothing here is shared with PyTorch but the prompt.
"""

from pathlib import Path

import numpy as np
import onnxruntime as ort

from .loops import Run
from .shapes import CODEBOOKS, HEAD_DIM, Shape
from .tokenizer import AUDIO_PLACEHOLDER, AUDIO_START, TEXT_END, TURN_END


def session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def zeros_of(value, batch: int = 1) -> np.ndarray:
    """An empty cache for a declared input: zero wide where it grows."""
    named = {"batch_size": batch, "past_sequence_length": 0, "past_length": 0, "kv_cache_dim": HEAD_DIM}
    return np.zeros([d if isinstance(d, int) else named[d] for d in value.shape], np.float32)


class Speech:
    def __init__(
        self,
        folder: Path,
        shape: Shape,
        suffix: str = "",
        *,
        depthformer: Path | None = None,
        embeddings: str | None = None,
    ):
        graphs = folder / "onnx"
        open_ = lambda name: session(graphs / f"{name}{suffix}.onnx")  # noqa: E731
        self.shape = shape
        self.decoder, self.encoder = open_("decoder"), open_("audio_encoder")
        self.codes, self.detokenizer = open_("audio_embedding"), open_("audio_detokenizer")
        home = depthformer or graphs
        self.depth = session(home / f"vocoder_depthformer{suffix}.onnx")
        split = home / "vocoder_projection.onnx"
        self.projection = session(split) if split.exists() else None
        self.depth_inputs = {value.name: value for value in self.depth.get_inputs()}
        self.embeddings = session(graphs / embeddings) if embeddings else None
        table = np.fromfile(graphs / "embed_tokens.bin", "<f4")
        self.tokens = table.reshape(-1, shape.hidden)

    def encode(self, mel: np.ndarray) -> np.ndarray:
        feeds = {"mel_spectrogram": mel[None], "mel_lengths": np.array([len(mel)], np.int64)}
        return self.encoder.run(["audio_embeddings"], feeds)[0][0]

    def prompt(self, pieces: list, rows: np.ndarray | None) -> np.ndarray:
        if self.embeddings:
            ids = np.array([[AUDIO_PLACEHOLDER if piece == "audio" else piece for piece in pieces]], np.int64)
            features = rows if rows is not None else np.zeros((0, self.shape.hidden), np.float32)
            return self.embeddings.run(None, {"input_ids": ids, "audio_features": features})[0]
        audio = iter(rows if rows is not None else [])
        return np.stack([next(audio) if piece == "audio" else self.tokens[piece] for piece in pieces])[None]

    def start(self) -> None:
        names = ("inputs_embeds", "attention_mask")
        self.cache = {v.name: zeros_of(v) for v in self.decoder.get_inputs() if v.name not in names}
        self.past = 0

    def step(self, embeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.past += embeds.shape[1]
        feeds = {"inputs_embeds": embeds, "attention_mask": np.ones((1, self.past), np.int64), **self.cache}
        out = dict(zip([o.name for o in self.decoder.get_outputs()], self.decoder.run(None, feeds)))
        for name in self.cache:
            self.cache[name] = out[name.replace("past_key_values", "past").replace("past", "present")]
        return out["logits"][0, -1], out["hidden_states"][0, -1]

    def frame(self, hidden: np.ndarray) -> tuple[list[int], np.ndarray]:
        caches = {name: zeros_of(self.depth_inputs[name]) for name in ("past_keys", "past_values")}
        slices = np.zeros((1, CODEBOOKS, self.shape.depth_dim), np.float32)
        if self.projection:
            slices = self.projection.run(None, {"hidden_states": hidden[None]})[0]
        codes, rows, token = [], [], 0
        for i in range(CODEBOOKS):
            feeds = {
                "hidden_states": hidden[None],
                "depth_slices_in": slices,
                "depth_slices": slices,
                "step_idx": np.array(i, np.int64),
                "prev_token": np.array([token], np.int64),
                "seqlens_k": np.array([i], np.int32),
                "total_seq_len": np.array(i + 1, np.int32),
                **caches,
            }
            feeds = {name: value for name, value in feeds.items() if name in self.depth_inputs}
            names = [o.name for o in self.depth.get_outputs()]
            out = dict(zip(names, self.depth.run(None, feeds)))
            caches = {"past_keys": out["new_keys"], "past_values": out["new_values"]}
            slices = out.get("depth_slices", slices)
            rows.append(out["logits"][0])
            token = int(rows[-1].argmax())
            codes.append(token)
        return codes, np.stack(rows)

    def generate(self, embeds: np.ndarray, mode: str, limit: int) -> Run:
        run, end = Run(), self.shape.end_code
        speaking, done, left = False, False, self.shape.n_text
        self.start()
        while len(run.items) < limit:
            left -= 1
            logits, hidden = self.step(embeds)
            if not speaking:
                token = int(logits.argmax())
                if mode == "interleaved" and token == TURN_END:
                    break
                run.items.append({"text": token})
                if mode == "interleaved":
                    done = done or token == TEXT_END
                    if left == 0 or done:
                        speaking, left = True, self.shape.n_audio
                elif token == TURN_END:
                    break
                else:
                    speaking = token == AUDIO_START
                embeds = self.tokens[token][None, None]
            else:
                codes, _ = self.frame(hidden)
                if mode == "interleaved" and left == 0 and not done:
                    speaking, left = False, self.shape.n_text
                if codes[0] == end:
                    codes, speaking = [end] * CODEBOOKS, False
                run.items.append({"audio": codes})
                places = np.array([codes], np.int64) + np.arange(CODEBOOKS) * self.shape.codebook_size
                embeds = self.codes.run(None, {"audio_codes": places})[0].sum(1, keepdims=True)
        return run

    def features(self, codes: np.ndarray) -> np.ndarray:
        return self.detokenizer.run(None, {"audio_codes": codes[None]})[0][0]
