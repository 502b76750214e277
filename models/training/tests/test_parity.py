"""The trained modules against their references, and the written graphs against the trained modules."""

import random

import numpy as np
import onnxruntime
import pytest
import torch

from pipeline import assistant, codec, graphs, tokens
from pipeline.examples import CLOSE, OPEN, Script, pack
from pipeline.lfm2 import Lfm2


def run(graph, feeds, output):
    return onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"]).run([output], feeds)[0]


def shaken(module):
    """Norms that are all ones would hide a forgotten one."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return module.eval()


def test_the_backbone_is_transformers_lfm2():
    transformers = pytest.importorskip("transformers")
    ours = shaken(Lfm2("cac", 64, 96, 4, 2, vocabulary=40))
    theirs = transformers.Lfm2Model(transformers.Lfm2Config(**ours.config(), vocab_size=40, head_dim=16)).eval()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 17, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(inputs_embeds=x, use_cache=False).last_hidden_state, atol=2e-5, rtol=1e-4)


def test_a_window_hides_what_lies_before_it():
    model = shaken(Lfm2("a", 32, 64, 2, 1, window=3))
    x = torch.randn(1, 9, 32)
    y = x.clone()
    y[:, 2] += 1
    with torch.no_grad():
        changed = (model(x) - model(y)).abs().amax(-1)[0] > 1e-6
    assert changed.tolist() == [False, False, True, True, True, False, False, False, False]


def test_the_decoder_graph():
    model = shaken(assistant.Assistant())
    frames = np.random.default_rng(0).integers(0, 256, (5, 8))
    batch = pack([Script().begin(tokens.INTERLEAVED).words(OPEN["user"]).words(tokens.encode("what is seven plus two")).words(CLOSE).words(OPEN["assistant"]).sound(frames)], "cpu")
    with torch.no_grad():
        x = model.embed(batch)
        wanted = model.lfm(x)
    cache = {f"past_conv.{i}": np.zeros((1, 256, 3), np.float32) for i, kind in enumerate(assistant.PLAN) if kind == "c"}
    cache |= {f"past_key_values.{i}.{part}": np.zeros((1, 4, 0, 32), np.float32) for i, kind in enumerate(assistant.PLAN) if kind == "a" for part in ("key", "value")}
    made = run(graphs.decoder(model), {"inputs_embeds": x.numpy(), "attention_mask": np.ones((1, x.shape[1]), np.int64), **cache}, "hidden_states")
    np.testing.assert_allclose(made, wanted.numpy(), atol=2e-4)


def test_the_depthformer_graph():
    model = shaken(assistant.Assistant())
    session = onnxruntime.InferenceSession(graphs.depth(model).SerializeToString(), providers=["CPUExecutionProvider"])
    hidden, codes = torch.randn(1, 256), torch.randint(0, 256, (1, 8))
    with torch.no_grad():
        wanted = model.depth_logits(hidden, codes)[0].numpy()
    keys = values = np.zeros((2, 1, 4, 0, 16), np.float32)
    slices, before = np.zeros((1, 8, 128), np.float32), 0
    for step in range(8):
        feeds = {"hidden_states": hidden.numpy(), "depth_slices_in": slices, "step_idx": np.array(step), "prev_token": np.array([before]), "past_keys": keys,
                 "past_values": values, "seqlens_k": np.array([step], np.int32), "total_seq_len": np.array(step + 1, np.int32)}
        logits, slices, keys, values = session.run(["logits", "depth_slices", "new_keys", "new_values"], feeds)
        np.testing.assert_allclose(logits[0], wanted[step], atol=2e-4)
        before = int(codes[0, step])


@pytest.mark.parametrize("frames", [9, 16, 101, 157])
def test_the_ear_graph(frames):
    model = shaken(assistant.Assistant())
    clip = torch.randn(1, frames, 128)
    with torch.no_grad():
        wanted, counts = model.hear(clip, torch.tensor([frames]))
    graph = graphs.ear(model)
    feeds = {"mel_spectrogram": clip.numpy(), "mel_lengths": np.array([frames])}
    np.testing.assert_allclose(run(graph, feeds, "audio_embeddings"), wanted.numpy(), atol=2e-4)
    assert run(graph, feeds, "audio_lengths").tolist() == counts.tolist() == [-(-frames // 8)]


def test_a_padded_clip_is_heard_as_alone():
    model = shaken(assistant.Assistant())
    clips = torch.randn(2, 200, 128)
    with torch.no_grad():
        both, counts = model.hear(clips, torch.tensor([200, 101]))
        alone, _ = model.hear(clips[1:, :101], torch.tensor([101]))
    torch.testing.assert_close(both[1, : counts[1]], alone[0], atol=1e-4, rtol=1e-3)


def test_the_detokenizer_graph():
    made = shaken(codec.Codec())
    made.quantiser.vectors.normal_()
    codes = torch.randint(0, 256, (7, 8))
    points = sum(made.quantiser.vectors[book][codes[:, book]] for book in range(8))
    with torch.no_grad():
        wanted = made.decoder.features(made.decoder.enter(points[None]))
    features = run(graphs.detokenizer(made), {"audio_codes": codes.T[None].numpy()}, "stft_features")
    np.testing.assert_allclose(features, wanted.numpy(), atol=5e-4)


def test_a_frame_is_learnt_as_it_will_be_spoken():
    """Teacher forcing and free running see the same logits while the codes agree."""
    model = shaken(assistant.Assistant())
    hidden = torch.randn(3, 256)
    codes = torch.zeros(3, 8, dtype=torch.long)
    with torch.no_grad():
        for step in range(8):
            codes[:, step] = model.depth_logits(hidden, codes)[:, step].argmax(-1)
        again = model.depth_logits(hidden, codes).argmax(-1)
    assert torch.equal(again, codes)


def test_damage_leaves_targets_alone():
    frames = np.random.default_rng(0).integers(0, 256, (30, 8))
    script = Script().begin(None).words(OPEN["assistant"]).sound(frames)
    clean, spoilt = pack([script], "cpu"), pack([script], "cpu", random.Random(1), 0.5)
    assert torch.equal(clean.next_codes, spoilt.next_codes)
    assert not torch.equal(clean.codes, spoilt.codes)
