"""Distillation from a teacher's top K, decoupled and tempered, after LFM2's report.

The teacher's distribution is split in two: how much mass its K likeliest tokens hold together (a yes-or-no question, asked
at temperature 1), and how that mass is spread inside the K (asked at a temperature). Tempering the first would promise the
student mass that the teacher never kept; tempering the second alone lets it see the order of the unlikely ones.
"""

import torch
import torch.nn.functional as F


def keep(logits: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What has to be stored of a teacher: (indices [.., k], logits [.., k], log of the mass they hold [..])."""
    top = logits.topk(k, -1)
    return top.indices, top.values, top.values.logsumexp(-1) - logits.logsumexp(-1)


def loss(student: torch.Tensor, indices: torch.Tensor, logits: torch.Tensor, log_mass: torch.Tensor, temperature: float = 2.0) -> torch.Tensor:
    """Mean over positions of binary + mass x conditional divergence; the latter scaled by the square of the temperature."""
    inside = student.gather(-1, indices)
    student_mass = inside.logsumexp(-1) - student.logsumexp(-1)
    binary = divergence(log_mass, student_mass) + divergence(rest(log_mass), rest(student_mass))
    teacher_inside = (logits / temperature).log_softmax(-1)
    conditional = (teacher_inside.exp() * (teacher_inside - (inside / temperature).log_softmax(-1))).sum(-1)
    return (binary + log_mass.exp() * temperature**2 * conditional).mean()


def divergence(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    return log_p.exp() * (log_p - log_q)


def rest(log_mass: torch.Tensor) -> torch.Tensor:
    """log(1 - mass), finite when the K hold everything."""
    return torch.log(-torch.expm1(log_mass.clamp(max=-1e-6)))


def mixed(student: torch.Tensor, targets: torch.Tensor, teacher: tuple[torch.Tensor, torch.Tensor, torch.Tensor], share: float = 0.5) -> torch.Tensor:
    return (1 - share) * F.cross_entropy(student, targets) + share * loss(student, *teacher)
