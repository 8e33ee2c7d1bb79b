"""The networks of the golden file of certified training, in float64."""

import torch.nn.functional as F
from torch import Tensor, nn

from tests import golden


class Skip(nn.Module):
    """A block whose two paths, of one and two convolutions, are added."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, 1, 1)
        self.conv2 = nn.Conv2d(4, 6, 4, 2, 1)
        self.conv_skip = nn.Conv2d(4, 6, 2, 2, 0)
        self.conv3 = nn.Conv2d(6, 6, 3, 1, 1)
        self.fc1 = nn.Linear(96, 16)
        self.fc2 = nn.Linear(16, 10)

    def forward(self, images: Tensor) -> Tensor:
        first = F.relu(self.conv1(images))
        second = F.relu(self.conv2(first))
        third = F.relu(self.conv_skip(first) + self.conv3(second))
        logits: Tensor = self.fc2(F.relu(self.fc1(third.flatten(1))))
        return logits


class SkipIdentity(nn.Module):
    """A block that is added to what it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(64, 20)
        self.fc2 = nn.Linear(20, 20)
        self.fc3 = nn.Linear(20, 20)
        self.fc4 = nn.Linear(20, 10)

    def forward(self, images: Tensor) -> Tensor:
        first = F.relu(self.fc1(images.flatten(1)))
        second = F.relu(self.fc2(first))
        logits: Tensor = self.fc4(F.relu(first + self.fc3(second)))
        return logits


def _plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 4, 2, 1), nn.ReLU(), nn.Conv2d(4, 8, 4, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 10),
    )  # fmt: skip


def _normalised() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 4, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Flatten(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 10),
    )  # fmt: skip


KINDS = {"plain": _plain, "skip": Skip, "skipid": SkipIdentity, "bn": _normalised}


def network(tag: str, weights: str | None = None) -> nn.Module:
    """The network of a tag in eval mode; `weights` are those of another key of the file."""
    model = KINDS[tag]().double().eval()
    state = golden.under(f"certified/{weights or tag}/param/")
    missing = model.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in missing.missing_keys)
    return model
