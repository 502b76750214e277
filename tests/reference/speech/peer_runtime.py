"""The folder of layout C answering under onnxruntime-genai, its own mel front end, prompt and loops included.

Owns a third opinion on the references. That runtime's tokenizer knows the split patterns of published models alone, so
it is given a copy of the folder with one of those, which splits the prompts used here in the same places.
"""

import json
import shutil
from pathlib import Path

import onnxruntime_genai as og

from .loops import Run
from .references import SPOKEN_TEXT, SYSTEMS
from .tokenizer import AUDIO_PLACEHOLDER

KNOWN_SPLIT = "|".join(
    [
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
LIMIT = 256


class PeerRuntime:
    def __init__(self, folder: Path, scratch: Path, recording: Path):
        copy = scratch / "folder"
        shutil.copytree(folder, copy)
        config = copy / "genai_config.json"
        config.write_text(config.read_text().replace("embeddings_q8", "embeddings").replace("_q4.onnx", ".onnx"))
        document = json.loads((copy / "tokenizer.json").read_text())
        document["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = KNOWN_SPLIT
        (copy / "tokenizer.json").write_text(json.dumps(document))
        self.model = og.Model(str(copy))
        self.processor = self.model.create_multimodal_processor()
        self.audio = og.Audios.open(str(recording))

    def answer(self, name: str) -> tuple[list, list]:
        spoken = name != "speak"
        user = "<|audio|>" if spoken else SPOKEN_TEXT
        prompt = (
            f"<|startoftext|><|im_start|>system\n{SYSTEMS[name]}<|im_end|>\n"
            f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"
        )
        parameters = og.GeneratorParams(self.model)
        parameters.set_search_options(
            max_length=LIMIT,
            do_sample=False,
            audio_interleaved=name == "interleaved",
            audio_temperature=0.0,
            audio_top_k=1,
        )
        generator = og.Generator(self.model, parameters)
        generator.set_inputs(self.processor(prompt, audios=self.audio) if spoken else self.processor(prompt))
        tokens = []
        while not generator.is_done():
            generator.generate_next_token()
            tokens.append(int(generator.get_next_tokens()[0]))
        frames = generator.get_output("audio_codes").tolist()
        return ["frame" if token == AUDIO_PLACEHOLDER else token for token in tokens], frames


def expected(run: Run, name: str, end_code: int, turn_end: int) -> tuple[list, list]:
    """A run as this runtime reports it: end frames have a place among the tokens and none among the frames."""
    tokens = [item.get("text", "frame") for item in run.items]
    if name == "interleaved" and run.ended:
        tokens.append(turn_end)
    frames = [item["audio"] for item in run.items if "audio" in item and item["audio"][0] != end_code]
    return tokens, frames
