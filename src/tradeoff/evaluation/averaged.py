"""A random model made a function: the vote of many calls, attacked through their average."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tradeoff.networks.randomness import derive_seed

TIE = 1e-3  # how much of a vote the mean probability is: it decides between equal votes


class Averaged(nn.Module):
    """Images to shares of votes (N, classes): each of `copies` calls votes for one class.

    Its random numbers are the same in every call, yet depend on the place of an image in its batch.
    Attacks follow the gradient of the mean probability over as many other random numbers
    (expectation over transformation, Athalye et al. 2018).
    """

    def __init__(self, model: nn.Module, copies: int) -> None:
        super().__init__()
        self.model, self.copies = model, copies
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        probabilities = _calls(self.model, images, self.copies, "judge")
        votes = F.one_hot(probabilities.argmax(2), probabilities.shape[2]).float()
        return votes.mean(0) + TIE * probabilities.mean(0)

    def surrogate(self) -> nn.Module:
        """What attacks differentiate."""
        return _MeanProbability(self.model, self.copies)


class _MeanProbability(Averaged):
    """Images to logarithms of mean probabilities (N, classes)."""

    def forward(self, images: Tensor) -> Tensor:
        return _calls(self.model, images, self.copies, "attack").mean(0).clamp_min(1e-30).log()


def _calls(model: nn.Module, images: Tensor, copies: int, purpose: str) -> Tensor:
    """The probabilities of each call, (copies, N, classes)."""
    with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
        torch.manual_seed(derive_seed("random model", purpose))
        return torch.stack([model(images).softmax(1) for _ in range(copies)])
