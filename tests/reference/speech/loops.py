"""How a model answers, on PyTorch: prompt, prefill, sequential and interleaved generation, all greedy.

Owns the second implementation of liquid-audio's loops. It exists because liquid-audio's own generators know one size of
codebook, and because the steering of `steering.py` has to look between the steps; on model A the two are compared item
for item.
"""

from dataclasses import dataclass, field

import torch

from liquid_audio import ChatState, LFM2AudioProcessor, LFMModality
from liquid_audio.processor import PreprocessorConfig

from .shapes import CODEBOOKS, PREPROCESSOR, Shape
from .tokenizer import AUDIO_START, TEXT_END, TURN_END

INTERLEAVED = "Respond with interleaved text and audio."
TRANSCRIBE = "Perform ASR."
SPEAK = "Perform TTS. Use the UK female voice."


def processor(tokenizer_folder) -> LFM2AudioProcessor:
    return LFM2AudioProcessor(str(tokenizer_folder), PreprocessorConfig(**PREPROCESSOR))


def mel_features(kit: LFM2AudioProcessor, samples: torch.Tensor) -> torch.Tensor:
    """[F, 128], in the order of time."""
    return kit.audio(samples[None], torch.tensor([len(samples)]))[0][0].T


def prompt(
    kit: LFM2AudioProcessor, system: str, *, samples: torch.Tensor | None = None, text: str | None = None
) -> ChatState:
    chat = ChatState(kit, codebooks=CODEBOOKS, dtype=torch.float32)
    chat.new_turn("system")
    chat.add_text(system)
    chat.end_turn()
    chat.new_turn("user")
    if samples is not None:
        chat.add_audio(samples[None], 16_000)
    if text is not None:
        chat.add_text(text)
    chat.end_turn()
    chat.new_turn("assistant")
    return chat


def prompt_pieces(kit: LFM2AudioProcessor, chat: ChatState) -> list:
    """The prompt as a list of token ids, with "audio" wherever one encoder row stands."""
    ids = iter(chat.text[0].tolist())
    return ["audio" if kind == LFMModality.AUDIO_IN else next(ids) for kind in chat.modality_flag[0].tolist()]


@dataclass
class Step:
    """What one decoder step knew and chose."""

    mode: str  # "text" or "audio"
    hidden: torch.Tensor
    logits: torch.Tensor  # over the vocabulary, or [8, codebook] of the frame
    chosen: int | list[int]
    first_hidden: torch.Tensor | None = None  # what the logits of codebook 0 are projected from


@dataclass
class Run:
    items: list = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    ended: bool = False

    def codes(self, end_code: int) -> list[list[int]]:
        """The frames as the detokenizer takes them: no end frames, no end codes."""
        frames = [item["audio"] for item in self.items if "audio" in item]
        return [[min(code, end_code - 1) for code in frame] for frame in frames if frame[0] != end_code]

    def text_ids(self) -> list[int]:
        return [item["text"] for item in self.items if "text" in item]


class Backbone:
    """The decoder with its cache, one call a step."""

    def __init__(self, model, embeddings: torch.Tensor):
        self.model, self.pending, self.cache = model, embeddings, None

    def step(self) -> torch.Tensor:
        out = self.model.lfm(inputs_embeds=self.pending, past_key_values=self.cache, use_cache=True)
        self.cache = out.past_key_values
        return out.last_hidden_state[0, -1]

    def feed_text(self, token: int) -> None:
        self.pending = self.model.lfm.embed_tokens.weight[token][None, None]

    def feed_frame(self, codes: list[int]) -> None:
        rows = torch.tensor(codes) + self.model.codebook_offsets
        self.pending = self.model.audio_embedding(rows).sum(0)[None, None]


def text_logits(model, hidden: torch.Tensor) -> torch.Tensor:
    return model.lfm.embed_tokens.weight @ hidden


def frame(model, hidden: torch.Tensor, first: int | None = None):
    """Codes, logits [8, codebook] and the projected vector of codebook 0. `first` overrides the first code's choice."""
    slices = model.depth_linear(hidden).reshape(CODEBOOKS, -1)
    token, cache, codes, logits, first_hidden = torch.zeros_like(slices[0]), None, [], [], None
    for i in range(CODEBOOKS):
        out, cache = model.depthformer.forward_cached((slices[i] + token)[None, None], cache)
        tables = model.depth_embeddings[i]
        logits.append(tables.get_logits(out[0, 0]))
        code = int(logits[-1].argmax())
        if i == 0:
            first_hidden = tables.embedding_norm(out[0, 0])
            code = code if first is None else first
        codes.append(code)
        token = tables(torch.tensor(code))
    return codes, torch.stack(logits), first_hidden


class Greedy:
    """Takes the likeliest of everything."""

    def text(self, logits: torch.Tensor) -> int:
        return int(logits.argmax())

    def first_code(self, end_code: int, model, hidden: torch.Tensor) -> int | None:
        return None


def generate(shape: Shape, model, chat: ChatState, mode: str, limit: int, chooser=None) -> Run:
    """`mode` is "sequential" or "interleaved"."""
    chooser = chooser or Greedy()
    run, end = Run(), shape.end_code
    backbone = Backbone(model, model._prefill(**{name: chat[name] for name in chat.model_inputs}))
    speaking, done, left = False, False, shape.n_text
    while len(run.items) < limit:
        left -= 1
        hidden = backbone.step()
        if not speaking:
            logits = text_logits(model, hidden)
            token = chooser.text(logits)
            run.steps.append(Step("text", hidden, logits, token))
            if mode == "interleaved" and token == TURN_END:
                run.ended = True
                break
            run.items.append({"text": token})
            if mode == "interleaved":
                done = done or token == TEXT_END
                if left == 0 or done:
                    speaking, left = True, shape.n_audio
            else:
                speaking = token == AUDIO_START
                if token == TURN_END:
                    run.ended = True
                    break
            backbone.feed_text(token)
        else:
            codes, logits, first_hidden = frame(model, hidden, chooser.first_code(end, model, hidden))
            run.steps.append(Step("audio", hidden, logits, codes, first_hidden))
            if mode == "interleaved" and left == 0 and not done:
                speaking, left = False, shape.n_text
            if codes[0] == end:
                codes, speaking = [end] * CODEBOOKS, False
            run.items.append({"audio": codes})
            backbone.feed_frame(codes)
    return run


def liquid_audio_items(model, chat: ChatState, mode: str, limit: int) -> list:
    """The same run by liquid-audio's own generator. Codebooks of 2049 alone."""
    generate_ = model.generate_interleaved if mode == "interleaved" else model.generate_sequential
    inputs = {name: chat[name] for name in chat.model_inputs}
    emitted = [token.tolist() for token in generate_(**inputs, max_new_tokens=limit)]
    return [{"text": token[0]} if len(token) == 1 else {"audio": token} for token in emitted]
