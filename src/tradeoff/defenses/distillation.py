"""Defensive distillation (Papernot et al. 2016): a student learns the soft labels of a teacher.

    q(x) = softmax(g(x) / T),    L(x) = -sum_j q_j(x) log softmax(f(x) / T)_j

without hard labels and without Hinton's factor T^2. The student is deployed at T = 1, where its
logits are T times too large: in float32 the gradient of the cross-entropy vanishes, and attacks
that follow it fail. The defense is known to be broken: attacks on the margin succeed (Carlini &
Wagner 2017, section VIII). It is selected by natural accuracy, since PGD's would measure
saturation.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import Positive, Section
from tradeoff.training.contract import Loss, Step

SELECT_BY = "natural"
BASES = ("teacher",)


class Knobs(Section):
    temperature: Positive


def objective(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the student's softened probabilities against the teacher's, a scalar.

    Both are softened in float32 at least: near ln C the loss lives in its last digits.
    """
    kind = torch.promote_types(logits.dtype, torch.float32)
    soft_labels = (teacher_logits.to(kind) / temperature).softmax(1)
    return F.cross_entropy(logits.to(kind) / temperature, soft_labels)


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    (teacher,) = step.bases.values()
    with torch.no_grad():
        teacher_logits = teacher(images)
    loss = objective(model(images), teacher_logits, knobs.temperature)
    return Loss(loss, {"cross_entropy": loss.detach()})
