"""The tiny random model, and a seed whose greedy answers are worth comparing (see `text.checkpoint`)."""

from pathlib import Path

import torch
from transformers import Lfm2Config, Lfm2ForCausalLM, Lfm2VlConfig, Lfm2VlForConditionalGeneration

from speech import tokenizer
from speech.checkpoint import near_grid, randomise
from text.checkpoint import STEPS, usable

from .shapes import IMAGE_TOKEN, Shape

# Nearer to the 4-bit grid than the other models: here two networks in a row are rounded.
OFF_GRID = 0.05


@torch.no_grad()
def model(shape: Shape, seed: int) -> Lfm2VlForConditionalGeneration:
    config = Lfm2VlConfig(
        text_config=shape.lfm() | {"model_type": "lfm2"},
        vision_config=shape.vision(),
        image_token_id=IMAGE_TOKEN,
        projector_hidden_size=shape.projector,
        projector_use_layernorm=False,
        downsample_factor=2,
    )
    made = Lfm2VlForConditionalGeneration(config)
    randomise(made.model, torch.Generator().manual_seed(seed), OFF_GRID)
    rows = made.model.language_model.embed_tokens.weight
    rows[: tokenizer.SPECIALS] *= 0.4
    rows[-tokenizer.UNUSED :] *= 0.4
    rows.copy_(near_grid(rows, OFF_GRID))
    made.tie_weights()
    return made.eval()


@torch.no_grad()
def greedy(made, inputs: dict, steps: int = STEPS) -> tuple[list[int], torch.Tensor]:
    """Ids and the logits [steps, V] that each was taken from."""
    fed, cache, ids, logits = dict(inputs), None, [], []
    for _ in range(steps):
        out = made(**fed, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        logits.append(out.logits[0, -1])
        ids.append(int(logits[-1].argmax()))
        fed = {"input_ids": torch.tensor([[ids[-1]]])}
    return ids, torch.stack(logits)


@torch.no_grad()
def features(made, inputs: dict) -> torch.Tensor:
    """The rows [image tokens, H] that stand in for the placeholders."""
    names = ("pixel_values", "spatial_shapes", "pixel_attention_mask")
    return torch.cat(made.model.get_image_features(**{name: inputs[name] for name in names}).pooler_output)


def chosen(shape: Shape, prompts: list[dict], attempts: int = 300):
    """The first model from the shape's seed on whose answers to all prompts are usable."""
    for seed in range(shape.seed, shape.seed + attempts):
        made, runs = model(shape, seed), []
        for inputs in prompts:
            runs.append(greedy(made, inputs))
            if not usable(*runs[-1]):
                break
        else:
            print(f"{shape.name}: seed {seed}", flush=True)
            return made, runs
    raise SystemExit(f"{shape.name}: no usable seed in {attempts}")


@torch.no_grad()
def save_backbone(made, shape: Shape, folder: Path) -> None:
    """The language model as a checkpoint of its own, with the tokenizer: what the model builder reads."""
    text = Lfm2ForCausalLM(Lfm2Config(**shape.lfm()))
    text.model.load_state_dict(made.model.language_model.state_dict())
    text.tie_weights()
    text.save_pretrained(str(folder))
    tokenizer.write(folder)
