"""ACT, adversarial concurrent training (Arani et al. 2020): two networks that imitate each other.

G learns clean images, F adversarial ones, and each the other's softened logits, which are constant:

    L_G = (1 - alpha) CE(G(x), y) + alpha D(G(x), F(x')),    D(s, t) = T^2 KL(t / T || s / T)
    L_F = (1 - alpha) CE(F(x'), y) + alpha D(F(x'), G(x))

F is the classifier. x' ascends (1 - alpha) / B CE(F(x'), y) + alpha KL(G(x) || F(x')) for each
image of a batch of B, from beside x: a batch's mean of one and sum of the other, as published. F is
attacked in eval mode; G(x) are the logits that the loss itself has, in train mode. G's passes are
not among those counted.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.core.schema import Fraction, Positive, Section
from tradeoff.networks.ascent import ascend
from tradeoff.networks.losses import kl_divergence
from tradeoff.training.contract import Loss, Step

SELECT_BY = "robust"
NETWORKS = 2
CLASSIFIER = "first"


class Knobs(Section):
    alpha: Fraction
    temperature: Positive


def adversarial_examples(
    images: Tensor, labels: Tensor, natural_logits: Tensor, step: Step, alpha: float
) -> Tensor:
    """Examples that F misclassifies and answers unlike G(x), `natural_logits`, (N, C, H, W)."""
    natural = F.log_softmax(natural_logits, 1)
    batch = step.batch or len(images)

    def objective(candidates: Tensor) -> Tensor:
        logits = step.frozen(candidates)
        wrong = F.cross_entropy(logits, labels, reduction="none") / batch
        return (1 - alpha) * wrong + alpha * kl_divergence(natural, logits)

    return ascend(objective, images, step.gaussian_start(images), step.inner, precise_steps=1)


def imitation(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """D(s, t), a scalar mean over the batch; the teacher's logits get no gradient."""
    teacher = F.log_softmax(teacher_logits.detach() / temperature, 1)
    return temperature**2 * kl_divergence(teacher, logits / temperature).mean()


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    alpha, temperature = knobs.alpha, knobs.temperature
    natural: Tensor = step.network.get_submodule("networks.1")(images)
    adversarial = adversarial_examples(images, labels, natural.detach(), step, alpha)
    robust, targets = model(adversarial), step.targets(labels)
    parts = {
        "cross_entropy_natural": F.cross_entropy(natural, targets),
        "cross_entropy_robust": F.cross_entropy(robust, targets),
        "imitation_natural": imitation(natural, robust, temperature),
        "imitation_robust": imitation(robust, natural, temperature),
    }
    total = sum(
        (1 - alpha) * parts[f"cross_entropy_{role}"] + alpha * parts[f"imitation_{role}"]
        for role in ("natural", "robust")
    )
    assert isinstance(total, Tensor)
    return Loss(total, {name: part.detach() for name, part in parts.items()})
