"""The tiny random checkpoints, and a seed whose greedy text is worth comparing.

Promises: the same seed gives the same weights. Linear weights lie near a 4-bit grid (see `speech.checkpoint`). A chosen
model says many different things, never a row without a token, never an end, and every choice leads by `LEAD`.
"""

from pathlib import Path

import torch
from transformers import Lfm2Config, Lfm2ForCausalLM, Lfm2MoeConfig, Lfm2MoeForCausalLM

from speech import tokenizer
from speech.checkpoint import near_grid, randomise

from .shapes import Shape

OFF_GRID = 0.1
STEPS = 64
LEAD = 2e-3
DISTINCT = 40
ENDS = (tokenizer.END_OF_TEXT, tokenizer.TURN_END)


@torch.no_grad()
def model(shape: Shape, seed: int):
    kind, config = (Lfm2MoeForCausalLM, Lfm2MoeConfig) if shape.experts else (Lfm2ForCausalLM, Lfm2Config)
    made = kind(config(**shape.config()))
    generator = torch.Generator().manual_seed(seed)
    randomise(made.model, generator, OFF_GRID)
    for block in (layer.feed_forward for layer in made.model.layers):
        if hasattr(block, "experts"):
            mixture(block, generator)
    # As in a trained model, markers and rows without a token are hardly ever the likeliest.
    rows = made.model.embed_tokens.weight
    rows[: tokenizer.SPECIALS] *= 0.4
    rows[-tokenizer.UNUSED :] *= 0.4
    rows.copy_(near_grid(rows, OFF_GRID))
    made.tie_weights()
    return made.eval()


def mixture(block, generator: torch.Generator) -> None:
    for weight in (block.experts.gate_up_proj, block.experts.down_proj):
        for expert in weight:
            drawn = torch.randn(expert.shape, generator=generator) / expert.shape[1] ** 0.5
            expert.copy_(near_grid(drawn, OFF_GRID))
    # Weights that leave the router undecided would let rounding choose other experts.
    block.gate.weight.copy_(2 * torch.randn(block.gate.weight.shape, generator=generator) / block.gate.weight.shape[1] ** 0.5)
    block.expert_bias.copy_(0.2 * torch.randn(block.expert_bias.shape, generator=generator))


@torch.no_grad()
def greedy(made, prompt: list[int], steps: int = STEPS) -> tuple[list[int], torch.Tensor]:
    """Ids and the logits [steps, V] that each was taken from. Nothing ends it: the length is what is compared."""
    fed, cache, ids, logits = torch.tensor([prompt]), None, [], []
    for _ in range(steps):
        out = made(input_ids=fed, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        logits.append(out.logits[0, -1])
        ids.append(int(logits[-1].argmax()))
        fed = torch.tensor([[ids[-1]]])
    return ids, torch.stack(logits)


def usable(ids: list[int], logits: torch.Tensor) -> bool:
    top = logits.topk(2).values
    return (
        len(set(ids)) >= DISTINCT
        and not set(ids) & set(ENDS)
        and max(ids) < logits.shape[1] - tokenizer.UNUSED
        and float((top[:, 0] - top[:, 1]).min()) >= LEAD
    )


def chosen(shape: Shape, prompts: list[list[int]], attempts: int = 400):
    """The first model from the shape's seed on whose answers to all prompts are usable."""
    best = 0
    for seed in range(shape.seed, shape.seed + attempts):
        made = model(shape, seed)
        runs = []
        for prompt in prompts:
            runs.append(greedy(made, prompt))
            best = max(best, len(set(runs[-1][0])))
            if not usable(*runs[-1]):
                break
        else:
            print(f"{shape.name}: seed {seed}, {len(set(runs[0][0]))} different ids", flush=True)
            return made, runs
    raise SystemExit(f"{shape.name}: no usable seed in {attempts}; at best {best} different ids")


def save(made, folder: Path) -> None:
    """The checkpoint as transformers writes it, with the tokenizer: what the model builder reads."""
    made.save_pretrained(str(folder))
    tokenizer.write(folder)
