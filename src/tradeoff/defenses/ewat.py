"""EWAT (Kim et al. 2021): TRADES whose images weigh as much as their prediction is uncertain.

    L(x, y) = CE(f(x), y) + beta H(f(x')) KL(f(x) || f(x'))

The authors weigh the loss of each adversarial example in proportion to the entropy of its
predicted distribution. That this is done to the divergence of TRADES, with no gradient through
the weight, is a reconstruction: only the abstract could be read, and no code is public. So written
it is the entropy of D-TRADES, taken at x' in place of x.
"""

from torch import Tensor, nn

from tradeoff.core.schema import NonNegative, Section
from tradeoff.defenses import trades
from tradeoff.networks.losses import entropy
from tradeoff.training.contract import Loss, Step

SELECT_BY = "robust"


class Knobs(Section):
    beta: NonNegative


def training_loss(
    model: nn.Module, images: Tensor, labels: Tensor, step: Step, knobs: Knobs
) -> Loss:
    adversarial = trades.adversarial_examples(images, step.eval_logits(images), step)
    clean_logits, adversarial_logits = model(images), model(adversarial)
    weight = knobs.beta * entropy(adversarial_logits.detach())
    targets = step.targets(labels)
    total, parts = trades.objective(clean_logits, adversarial_logits, targets, weight)
    return Loss(total, parts, {"lambda": weight})
