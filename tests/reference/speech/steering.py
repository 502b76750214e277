"""Gives a random model the markers a trained one emits: start and end of speech, end of text, end of turn.

Left alone, a random network hardly ever picks one row out of a thousand, and no loop would change its mode. So each
mode is run once with the markers forced at the steps of `plans`; then the marker's own row of the output table is
solved so that it wins at these steps and nowhere else.

A token's row is also its embedding, and every prompt holds ends of turns, so the states move when the row does. To keep
that movement small, the last coordinate of the final norm is zero: no logit depends on it, and the markers' rows have
most of their length there. The steps are repeated until an unforced greedy run does what the plans ask for.
"""

from dataclasses import dataclass

import torch

from .loops import Run, frame, generate
from .shapes import VOCAB, Shape
from .tokenizer import AUDIO_START, TEXT_END, TURN_END, UNUSED

MARKERS = (TURN_END, AUDIO_START, TEXT_END)
MARGIN = 1.0
ANCHOR = {TURN_END: 1000.0, AUDIO_START: 4.0, TEXT_END: 4.0}
# The least lead of every choice over its rival, so that rounding on another machine changes no choice.
MARGIN_LEFT = 2e-4


@dataclass(frozen=True)
class Plan:
    """Which marker comes at which text step, and at which audio frames speech ends (both counted from 0)."""

    mode: str
    text: dict[int, int]
    ends: tuple[int, ...]
    limit: int


class Forced:
    """Follows a plan; picks the likeliest unmarked token or code elsewhere."""

    def __init__(self, plan: Plan):
        self.plan, self.texts, self.frames = plan, 0, 0

    def text(self, logits):
        token = self.plan.text.get(self.texts)
        self.texts += 1
        if token is not None:
            return token
        allowed = logits.clone()
        allowed[list(MARKERS)] = -torch.inf
        allowed[-UNUSED:] = -torch.inf
        return int(allowed.argmax())

    def first_code(self, end_code, model, hidden):
        ends = self.frames in self.plan.ends
        self.frames += 1
        return end_code if ends else int(frame(model, hidden)[1][0, :end_code].argmax())


def solve(wanted: list[tuple[torch.Tensor, float]], others: list[tuple[torch.Tensor, float]]) -> torch.Tensor:
    """A short row whose product with each wanted state beats the best rival there and stays below it elsewhere."""
    states = torch.stack([h for h, _ in wanted + others]).double()
    best = torch.tensor([b for _, b in wanted + others], dtype=torch.double)
    fires = torch.arange(len(states)) < len(wanted)
    targets = torch.where(fires, best + MARGIN, 0.0)
    weights = torch.where(fires, 1.0, 0.03)
    for _ in range(50):
        left = states.T * weights @ states + 1e-3 * torch.eye(states.shape[1], dtype=torch.double)
        row = torch.linalg.solve(left, states.T @ (weights * targets))
        products = states @ row
        wrong = torch.where(fires, products < best + MARGIN / 2, products > best - MARGIN / 5)
        if not wrong.any():
            break
        weights = torch.where(wrong, weights * 2, weights)
    return row.float()


def settled(
    row: torch.Tensor, wanted: list[tuple[torch.Tensor, float]], others: list[tuple[torch.Tensor, float]]
) -> bool:
    return all(row @ h > best + MARGIN / 3 for h, best in wanted) and all(
        row @ h < best - MARGIN / 30 for h, best in others
    )


def aim(model, runs: list[Run], plans: list[Plan], end_code: int) -> None:
    """Solves again the rows that fail in `runs`, and leaves the others, so that what they lead to stays as it is."""

    def gather(mode, state, is_fired, rivals):
        wanted, others = [], []
        for run, plan in zip(runs, plans):
            steps = [step for step in run.steps if step.mode == mode]
            for i, step in enumerate(steps):
                (wanted if is_fired(plan, i) else others).append((state(step), rivals(step)))
        return wanted, others

    def best_text(step):
        logits = step.logits.clone()
        logits[list(MARKERS)] = -torch.inf
        return float(logits.max())

    for marker in MARKERS:
        fires = lambda plan, i, marker=marker: plan.text.get(i) == marker  # noqa: E731
        wanted, others = gather("text", lambda step: step.hidden, fires, best_text)
        rows = model.lfm.embed_tokens.weight
        if not settled(rows[marker], wanted, others):
            rows[marker] = solve(wanted, others)
            rows[marker, -1] = ANCHOR[marker]
    wanted, others = gather(
        "audio", lambda s: s.first_hidden, lambda p, i: i in p.ends, lambda s: float(s.logits[0, :end_code].max())
    )
    rows = model.depth_embeddings[0].embedding.weight
    if not settled(rows[end_code], wanted, others):
        rows[end_code] = solve(wanted, others)


def margin(run: Run) -> float:
    """The smallest lead of a chosen token or code over the next best in a run."""
    lead = lambda logits: float(torch.diff(logits.topk(2).values).abs().min())  # noqa: E731
    return min(lead(step.logits) for step in run.steps)


def plans(shape: Shape) -> dict[str, Plan]:
    """What each mode is asked to show.

    Interleaved: two full rounds; speech that ends early in the second block (the count of steps left is not reset by
    it); later the end of the text, then speech that outlasts its block; at last the end of the turn.
    """
    text, audio = shape.n_text, shape.n_audio
    early = audio + audio // 3 - 1  # the frame that ends early, in the second block
    extra = audio - audio // 3  # text steps that the early end leaves
    blocks = 1 if audio > 8 else 3  # full blocks of speech before the last
    last_text = 2 * text + extra + (blocks - 1) * text + text // 2 - 1
    last_frame = early + blocks * audio + audio + 2
    return {
        "interleaved": Plan("interleaved", {last_text: TEXT_END, last_text + 1: TURN_END}, (early, last_frame), 96),
        "transcribe": Plan("sequential", {24: TURN_END}, (), 64),
        "speak": Plan("sequential", {6: AUDIO_START, 9: TURN_END}, (14,), 64),
    }


class NotSteered(Exception):
    """This seed's model cannot be brought to follow the plans with margins wide enough; another may."""


def steer(shape: Shape, model, prompts: dict, attempts: int = 12) -> dict[str, Run]:
    """Steers `model` in place; returns the unforced greedy run of each mode."""
    model.lfm.embedding_norm.weight[-1] = 0.0
    wanted = plans(shape)
    run = lambda name, chooser=None: generate(  # noqa: E731
        shape, model, prompts[name], wanted[name].mode, wanted[name].limit, chooser
    )
    for _ in range(attempts):
        forced = {name: run(name, Forced(plan)) for name, plan in wanted.items()}
        aim(model, list(forced.values()), list(wanted.values()), shape.end_code)
        free = {}
        for name in wanted:
            free[name] = run(name)
            if not follows(free[name], forced[name]):
                break
        else:
            least = min(map(margin, free.values()))
            if least < MARGIN_LEFT:
                raise NotSteered(f"a choice leads by {least:.1e} only")
            return free
    raise NotSteered(f"no fixed point in {attempts} attempts")


def follows(free: Run, forced: Run) -> bool:
    """Whether a free run has the modes, the markers and the ends of the forced one. Other tokens may differ."""
    outline = lambda r: [  # noqa: E731
        ("audio", len(set(item["audio"])) == 1)
        if "audio" in item
        else ("text", item["text"] if item["text"] in MARKERS else 0)
        for item in r.items
    ]
    return free.ended and outline(free) == outline(forced) and all(t < VOCAB - UNUSED for t in free.text_ids())
