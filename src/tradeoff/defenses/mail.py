"""MAIL-TRADES (Wang et al. 2021): TRADES whose images weigh more the nearer they are to an error.

    L(x, y) = CE(f(x), y) + beta w(x') KL(f(x) || f(x'))
    w(x')   = 3 sigmoid(slope (max_{k != y} p_k(x') - p_y(x') + bias))

No gradient flows through w; the factor 3 is the authors' code's.
"""

from torch import Tensor, nn

from tradeoff.core.schema import NonNegative, Number, Positive, Section
from tradeoff.defenses import trades
from tradeoff.networks.losses import margin
from tradeoff.training.contract import Loss, Step

SELECT_BY = "robust"


class Knobs(Section):
    beta: NonNegative
    slope: Positive
    bias: Number


def margin_weight(adversarial_logits: Tensor, labels: Tensor, slope: float, bias: float) -> Tensor:
    """w of each image, (N, C), (N,) -> (N,) in [0, 3]."""
    towards_error = -margin(adversarial_logits.softmax(1), labels)
    return 3 * (slope * (towards_error + bias)).sigmoid()


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    adversarial = trades.adversarial_examples(images, step.eval_logits(images), step)
    clean_logits, adversarial_logits = model(images), model(adversarial)
    weight = knobs.beta * margin_weight(
        adversarial_logits.detach(), labels, knobs.slope, knobs.bias
    )
    targets = step.targets(labels)
    total, parts = trades.objective(clean_logits, adversarial_logits, targets, weight)
    return Loss(total, parts, {"lambda": weight})
