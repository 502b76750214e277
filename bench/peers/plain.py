"""The plain loop: the published graphs run as they stand with onnxruntime, as the scripts beside them do.

Greedy, caches handed back and forth as arrays, every graph with the runtime's default options. The sound of a reply is
made in one go at its end, which costs the loop less than streaming would.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import onnxruntime

TEXT, AUDIO = 6, 12
FRAME_SECONDS = 0.08
CODEBOOKS = 8


def session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class Decoder:
    """A decoder of layout A and its cache."""

    def __init__(self, path: Path, threads: int):
        self.session = session(path, threads)
        self.inputs = [port for port in self.session.get_inputs() if port.name.startswith("past")]
        self.outputs = [port.name for port in self.session.get_outputs()]
        self.food = self.session.get_inputs()[0].name
        self.clear()

    def clear(self):
        def empty(port):
            shape = [1] + [size if isinstance(size, int) else 0 for size in port.shape[1:]]
            return np.zeros(shape, np.float32)

        self.cache = {port.name: empty(port) for port in self.inputs}
        self.length = 0

    def run(self, food: np.ndarray) -> dict[str, np.ndarray]:
        self.length += food.shape[1]
        mask = np.ones((1, self.length), np.int64)
        results = self.session.run(None, {self.food: food, "attention_mask": mask, **self.cache})
        results = dict(zip(self.outputs, results))
        for port in self.inputs:
            present = port.name.replace("past_key_values.", "present.").replace("past_", "present_")
            self.cache[port.name] = results[present]
        return results


class Speech:
    def __init__(self, folder: Path, threads: int):
        graphs = folder / "onnx"
        self.decoder = Decoder(graphs / "decoder_q4.onnx", threads)
        self.encoder = session(graphs / "audio_encoder_q4.onnx", threads)
        self.depthformer = session(graphs / "vocoder_depthformer_q4.onnx", threads)
        self.embedding = session(graphs / "audio_embedding_q4.onnx", threads)
        self.detokenizer = session(graphs / "audio_detokenizer_q4.onnx", threads)
        shape = json.loads((graphs / "embed_tokens.json").read_text())
        sizes = (shape["vocab_size"], shape["hidden_size"])
        self.tokens = np.memmap(graphs / "embed_tokens.bin", np.float32, "r", shape=sizes)
        cache = next(port for port in self.depthformer.get_inputs() if port.name == "past_keys")
        self.depth_cache = [cache.shape[0], 1, cache.shape[2], 0, cache.shape[4]]
        slices = next(port for port in self.depthformer.get_inputs() if port.name == "depth_slices_in")
        self.slices = [1, *slices.shape[1:]]

    def encode(self, seconds: float) -> np.ndarray:
        frames = int(seconds * 100) + 1
        mel = np.random.default_rng(1).standard_normal((1, frames, 128), np.float32)
        return self.encoder.run(None, {"mel_spectrogram": mel, "mel_lengths": np.array([frames])})[0]

    def prompt(self, sound: np.ndarray) -> np.ndarray:
        """As many positions as the published prompt of a conversation has around the sound."""
        before, behind = (self.tokens[np.arange(600, 600 + count)][None] for count in (19, 6))
        return np.concatenate([before, sound, behind], axis=1)

    def frame(self, hidden: np.ndarray) -> list[int]:
        codes, slices = [], np.zeros(self.slices, np.float32)
        keys = values = np.zeros(self.depth_cache, np.float32)
        for step in range(CODEBOOKS):
            logits, made, keys, values = self.depthformer.run(
                ["logits", "depth_slices", "new_keys", "new_values"],
                {
                    "hidden_states": hidden,
                    "depth_slices_in": slices,
                    "step_idx": np.array(step, np.int64),
                    "prev_token": np.array([codes[-1] if codes else 0], np.int64),
                    "past_keys": keys,
                    "past_values": values,
                    "seqlens_k": np.array([step], np.int32),
                    "total_seq_len": np.array(step + 1, np.int32),
                },
            )
            if step == 0:
                slices = made
            # Without the code that ends the speech.
            codes.append(int(logits[0, :-1].argmax()))
        return codes

    def sound(self, frames: list[list[int]]) -> np.ndarray:
        codes = np.array(frames, np.int64).T[None]
        rows = self.detokenizer.run(None, {"audio_codes": codes})[0][0]
        size, hop = 1280, 320
        magnitude, angle = rows[:, : size // 2 + 1], rows[:, size // 2 + 1 :]
        window = np.hanning(size + 1)[:-1].astype(np.float32)
        parts = np.fft.irfft(np.exp(magnitude + 1j * angle), size).astype(np.float32) * window
        whole = np.zeros(hop * (len(parts) - 1) + size, np.float32)
        weight = np.zeros_like(whole)
        for index, part in enumerate(parts):
            whole[index * hop :][:size] += part
            weight[index * hop :][:size] += window**2
        cut = (size - hop) // 2
        return (whole[cut:-cut] / weight[cut:-cut]).astype(np.float32)

    def reply(self, output: dict, frames_wanted: int) -> list[list[int]]:
        frames, text, left = [], True, TEXT
        while len(frames) < frames_wanted:
            left -= 1
            if text:
                row = self.tokens[int(output["logits"][0, -1, :64400].argmax())]
                if left == 0:
                    text, left = False, AUDIO
            else:
                frames.append(self.frame(output["hidden_states"][:, -1]))
                codes = np.array(frames[-1]) + 2049 * np.arange(CODEBOOKS)
                row = self.embedding.run(None, {"audio_codes": codes[None]})[0][0].sum(axis=0)
                if left == 0:
                    text, left = True, TEXT
            output = self.decoder.run(row[None, None].astype(np.float32))
        return frames


def reply(speech: Speech, seconds: float) -> dict:
    speech.decoder.clear()
    output = speech.decoder.run(speech.prompt(speech.encode(2)))
    begun, processor = time.perf_counter(), time.process_time()
    frames = speech.reply(output, round(seconds / FRAME_SECONDS))
    sound = len(speech.sound(frames)) / 24_000
    return {
        "RTF": (time.perf_counter() - begun) / sound,
        "processor": (time.process_time() - processor) / sound,
    }


def first(speech: Speech, seconds: float) -> dict:
    """From the end of a question to the first frame of sound; nothing was read before."""
    speech.decoder.clear()
    begun, processor = time.perf_counter(), time.process_time()
    output = speech.decoder.run(speech.prompt(speech.encode(seconds)))
    speech.sound(speech.reply(output, 1))
    return {"s": time.perf_counter() - begun, "processor": time.process_time() - processor}


def backbone(decoder: Decoder, part: str, count: int) -> dict:
    ids = np.arange(1000, 1000 + 2048)[None]
    decoder.clear()
    if part == "prefill":
        begun, processor = time.perf_counter(), time.process_time()
        decoder.run(ids[:, :count])
        seconds, work = time.perf_counter() - begun, time.process_time() - processor
        return {"tok/s": count / seconds, "processor": work / count}
    decoder.run(ids[:, :8])
    begun, processor = time.perf_counter(), time.process_time()
    for at in range(count):
        decoder.run(ids[:, at : at + 1])
    return {
        "tok/s": count / (time.perf_counter() - begun),
        "processor": (time.process_time() - processor) / count,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--part", choices=["reply", "first", "prefill", "decode"], required=True)
    parser.add_argument("--amount", type=float, required=True, help="seconds of the reply or the question, or positions")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.part in ("reply", "first"):
        speech = Speech(arguments.model, arguments.threads)
        first(speech, 1)
        result = (reply if arguments.part == "reply" else first)(speech, arguments.amount)
    else:
        decoder = Decoder(arguments.model / "onnx" / "model_q4.onnx", arguments.threads)
        backbone(decoder, "prefill", 8)
        result = backbone(decoder, arguments.part, int(arguments.amount))
    print(json.dumps({"peer": "plain loop", "onnxruntime": onnxruntime.__version__, **result}))


if __name__ == "__main__":
    main()
