"""Layers that draw numbers of their own draw them from the cell's seed."""

import torch
from torch import nn

from tests import tiny
from tradeoff.defenses import standard
from tradeoff.training.loop import fit
from tradeoff.training.plan import Plan


def trained(seed: int) -> dict[str, torch.Tensor]:
    layers = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, tiny.CLASSES))
    with torch.no_grad():
        layers[2].weight.fill_(0.1)
        layers[2].bias.zero_()
    plan = Plan(standard, standard.Knobs(), tiny.settings(epochs=1), tiny.THREAT, seed)
    return fit(layers, tiny.made_up(), plan, lambda *_: None).last


def test_dropout_is_that_of_the_seed() -> None:
    states = []
    for before, seed in ((1, 0), (2, 0), (1, 1)):
        torch.manual_seed(before)
        states.append(trained(seed)["2.weight"])
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
