"""What transformers' image processor makes of pictures: grids, counts, markers, and grey levels before normalising."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import Lfm2VlImageProcessor, Lfm2VlProcessor, PreTrainedTokenizerFast
from transformers.image_utils import load_image

from speech import tokenizer

from .images import FILES, pattern
from .shapes import PROCESSOR, PUBLISHED

SAMPLES = 600


def build(settings: dict, template: str | None = None) -> Lfm2VlProcessor:
    kit = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.build(), bos_token="<|startoftext|>", eos_token="<|im_end|>", pad_token="<|pad|>"
    )
    return Lfm2VlProcessor(Lfm2VlImageProcessor(**settings), kit, chat_template=template)


def entries(made: dict) -> list[np.ndarray]:
    """Per entry its real patches [patches, 768], padding cut off."""
    sizes = made["spatial_shapes"].tolist()
    return [values[: h * w].numpy() for values, (h, w) in zip(made["pixel_values"], sizes)]


def levels(values: np.ndarray, settings: dict) -> np.ndarray:
    """Patches as the bytes that they were made of."""
    by_channel = values.reshape(-1, 3) * np.array(settings["image_std"]) + np.array(settings["image_mean"])
    grey = by_channel * 255
    assert np.abs(grey - grey.round()).max() < 1e-2
    return grey.round().astype(np.uint8)


def runs(ids: list[int], kit) -> list[list]:
    """Ids as [token, how many times in a row]."""
    out: list[list] = []
    for name in kit.convert_ids_to_tokens(ids):
        if out and out[-1][0] == name:
            out[-1][1] += 1
        else:
            out.append([name, 1])
    return out


# Whole images around every boundary, and every grid that the published settings allow.
WHOLE = [
    (64, 64), (1, 1), (32, 32), (48, 80), (80, 48), (16, 16), (17, 300), (300, 17), (256, 256), (255, 257), (300, 200),
    (512, 512), (513, 511), (640, 480), (480, 640), (100, 1500), (1500, 100), (1000, 400), (720, 720), (736, 704),
    (800, 656), (1024, 512), (2048, 256), (336, 336), (368, 272), (224, 224), (240, 135), (1, 200), (3, 2), (511, 1023),
    (3000, 30), (40, 5000), (10000, 10), (1, 2000),
]  # fmt: skip
TILED = [
    (724, 724), (736, 720), (1024, 768), (768, 1024), (1920, 1080), (1080, 1920), (2000, 300), (300, 2000), (1280, 720),
    (1280, 1024), (1600, 1200), (900, 900), (1500, 1000), (1000, 1500), (3000, 310), (310, 3000), (2600, 330), (800, 700),
    (1366, 768), (1024, 1024), (1200, 600), (600, 1200), (1800, 600), (600, 1800), (2100, 520), (1700, 340), (340, 1700),
    (2000, 333), (333, 2000), (2400, 300), (2500, 1000), (1000, 2500), (1100, 1099), (1536, 1536),
]  # fmt: skip
CUBIC = [(90, 70), (300, 200), (640, 480), (1024, 768), (33, 700)]
# Knobs, with sizes at which they matter.
TURNED = [
    ({"max_image_tokens": 128}, (640, 480)), ({"max_image_tokens": 64}, (1024, 768)), ({"max_tiles": 4}, (1920, 1080)),
    ({"max_tiles": 2}, (1280, 1024)), ({"max_tiles": 3}, (1000, 1250)), ({"use_thumbnail": False}, (1920, 1080)),
    ({"min_tiles": 1, "max_tiles": 1}, (1920, 1080)), ({"min_tiles": 1, "max_tiles": 1, "max_image_tokens": 100}, (1000, 700)),
    ({"max_image_tokens": 32, "min_image_tokens": 32}, (500, 400)),
]  # fmt: skip


def sizes() -> tuple[list[dict], np.ndarray]:
    """Cases at the published settings, and for each some of its grey levels [cases, SAMPLES]."""
    cases, sampled = [], []
    wanted = [({}, size) for size in WHOLE + TILED] + [({"resample": 3}, size) for size in CUBIC] + TURNED
    for changed, (width, height) in wanted:
        settings = PUBLISHED | changed
        kit = build(settings)
        made = kit(images=Image.fromarray(pattern(width, height)), text="<image>", return_tensors="pt")
        flat = np.concatenate([levels(part, settings).reshape(-1) for part in entries(made)])
        step = len(flat) // SAMPLES | 1  # odd: all channels and columns are met
        sampled.append(flat[np.arange(SAMPLES) * step % len(flat)])
        cases.append({
            "width": width,
            "height": height,
            "settings": changed,
            "patches": made["spatial_shapes"].tolist(),
            "tokens": runs(made["input_ids"][0].tolist(), kit.tokenizer),
            "step": step,
        })  # fmt: skip
    return cases, np.stack(sampled)


def files(folder: Path) -> tuple[list[dict], list[np.ndarray]]:
    """What the files that are no plain pattern are after loading, and their pixels."""
    names = sorted(path.name for path in folder.iterdir() if path.name not in (*FILES, "deep.png"))
    loaded = [np.asarray(load_image(str(folder / name))) for name in names]
    return [{"file": n, "width": p.shape[1], "height": p.shape[0]} for n, p in zip(names, loaded)], loaded


IMAGE = {"type": "image"}


def says(role: str, *parts) -> dict:
    return {"role": role, "content": [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]}


def conversations() -> list[dict]:
    """Messages, tools, and the files of their images in order."""
    tool = {"type": "function", "function": {"name": "measure", "parameters": {"type": "object", "properties": {}}}}
    plain = {"role": "assistant", "content": "A lamp in the hall."}
    return [
        {"messages": [says("user", IMAGE, "What is this?")], "images": ["large.png"]},
        {"messages": [says("user", IMAGE, "What is this?")], "images": ["small.png"]},
        {"messages": [says("user", "Look: ", IMAGE, " and ", IMAGE, ". Which is brighter?")], "images": ["thin.png", "tall.png"]},
        {"messages": [says("user", IMAGE, IMAGE, IMAGE)], "images": ["small.png", "large.png", "small.png"]},
        {"messages": [says("system", "You look closely."), says("user", IMAGE, "?")], "images": ["tall.png"]},
        {"messages": [says("user", IMAGE, "What is this?"), plain, says("user", "And this?", IMAGE)], "images": ["large.png", "thin.png"]},
        {"messages": [says("user", "Measure it.", IMAGE)], "tools": [tool], "images": ["small.png"]},
        {"messages": [says("user", "No image at all.")], "images": []},
        {"messages": [{"role": "user", "content": "One in the words: <image>"}], "images": ["small.png"]},
        {"messages": [says("user", "Größe – 大きさ ", IMAGE, "\n"), plain, says("user", "thanks")], "images": ["large.png"]},
    ]  # fmt: skip


def rendered(template: str, folder: Path) -> tuple[Lfm2VlProcessor, list[dict], list[dict]]:
    """For each conversation the answer with text and ids, and the model's inputs."""
    kit = build(PROCESSOR, template)
    answers, inputs = [], []
    for case in conversations():
        text = kit.apply_chat_template(
            case["messages"], tools=case.get("tools"), add_generation_prompt=True, tokenize=False
        )
        pictures = [load_image(str(folder / name)) for name in case["images"]] or None
        made = kit(images=pictures, text=text, return_tensors="pt")
        answers.append(case | {"text": text, "ids": made["input_ids"][0].tolist()})
        inputs.append(made)
    return kit, answers, inputs


def lines(values: list[dict]) -> str:
    return "[\n" + ",\n".join(json.dumps(value, ensure_ascii=False) for value in values) + "\n]\n"
