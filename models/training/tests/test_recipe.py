"""The report's extras: distillation, curriculum, merging; and the loop that all stages share."""

import random

import pytest
import torch
from torch import nn

from pipeline import curriculum, distill, merge, train


def full(teacher, student):
    p = teacher.log_softmax(-1)
    return (p.exp() * (p - student.log_softmax(-1))).sum(-1).mean()


def test_all_tokens_at_temperature_one_is_the_plain_divergence():
    teacher, student = torch.randn(5, 12), torch.randn(5, 12)
    assert distill.loss(student, *distill.keep(teacher, 12), temperature=1.0).item() == pytest.approx(full(teacher, student).item(), abs=2e-4)


def test_a_student_like_its_teacher_has_nothing_to_learn():
    teacher = torch.randn(5, 40) * 3
    assert distill.loss(teacher + 2, *distill.keep(teacher, 8)).item() == pytest.approx(0, abs=1e-5)


def test_the_split_is_the_chain_rule():
    """Plain divergence = binary + mass x inside + (1 - mass) x outside; the last part is what top K leaves out."""
    teacher, student = torch.randn(1, 12), torch.randn(1, 12)
    indices, logits, mass = distill.keep(teacher, 4)
    outside = torch.ones(12, dtype=torch.bool)
    outside[indices[0]] = False
    left_out = (1 - mass.exp()) * full(teacher[:, outside], student[:, outside])
    assert (distill.loss(student, indices, logits, mass, 1.0) + left_out).item() == pytest.approx(full(teacher, student).item(), abs=1e-4)


def test_temperature_leaves_the_binary_part_alone():
    """With one token kept there is nothing inside to temper."""
    teacher, student = torch.randn(3, 9), torch.randn(3, 9)
    kept = distill.keep(teacher, 1)
    assert distill.loss(student, *kept, temperature=1.0).item() == pytest.approx(distill.loss(student, *kept, temperature=5.0).item(), abs=1e-6)


def test_a_sure_teacher_gives_finite_gradients():
    teacher = torch.zeros(1, 9)
    teacher[0, 3] = 60
    student = torch.randn(1, 9, requires_grad=True)
    distill.loss(student, *distill.keep(teacher, 4)).backward()
    assert torch.isfinite(student.grad).all()


def test_the_ensemble_orders_the_clips():
    hard = curriculum.difficulty([[True, True, False], [True, False, False]])
    assert hard == [0.0, 0.5, 1.0]
    order = curriculum.Order(hard, start=0.34, full=0.5)
    assert order.admitted(0) == 1 and order.admitted(0.25) == 2 and order.admitted(0.9) == 3
    assert {order.draw(0, random.Random(seed)) for seed in range(20)} == {0}
    assert curriculum.spread(hard) == [1, 0, 1, 0, 1]


def test_the_average_of_two():
    merged = merge.average([{"w": torch.zeros(2), "n": torch.tensor(3)}, {"w": torch.ones(2), "n": torch.tensor(3)}], [0.25, 0.75])
    assert merged["w"].tolist() == [0.75, 0.75] and merged["n"] == 3
    with pytest.raises(ValueError):
        merge.average([merged, merged], [0.5, 0.6])


def test_ties_drops_the_small_and_outvotes_the_odd():
    base = {"w": torch.zeros(4)}
    models = [{"w": torch.tensor([3.0, 0.1, 2.0, 0.0])}, {"w": torch.tensor([1.0, 0.2, -5.0, 0.0])}]
    assert merge.ties(base, models, density=0.5)["w"].tolist() == [2.0, 0.0, -5.0, 0.0]


def fit(steps, stop_at=None):
    model = nn.Linear(3, 1)
    with torch.no_grad():
        model.weight.fill_(0.5), model.bias.fill_(0.0)
    run = train.Run("toy", model, steps, 1e-2, warm=2)

    def loss_of(step, rng):
        if step == stop_at:
            run.save()
            raise KeyboardInterrupt
        x = torch.tensor([[rng.random() for _ in range(3)] for _ in range(4)])
        return (model(x) - x.sum(-1, keepdim=True)).square().mean(), {"cost": 0.0}

    run.go(loss_of, every=1000)
    return model.weight.detach().clone()


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(tmp_path, monkeypatch):
    monkeypatch.setenv("EDDY_TRAINING_CACHE", str(tmp_path / "whole"))
    whole = fit(12)
    monkeypatch.setenv("EDDY_TRAINING_CACHE", str(tmp_path / "parts"))
    with pytest.raises(KeyboardInterrupt):
        fit(12, stop_at=5)
    assert torch.equal(fit(12), whole)


def test_the_rate_warms_and_falls():
    rates = [train.rate(step, 100, 1.0, 10) for step in range(101)]
    assert rates[0] == 0.1 and max(rates) == 1.0 and rates[100] == pytest.approx(0.02)
