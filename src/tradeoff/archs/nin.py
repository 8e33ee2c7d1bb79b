"""Network in Network (Lin et al. 2014) for 32x32: three convolutions, two of 1x1 after each.

966 986 parameters for 3 channels and 10 classes. Its last layer has a map for each class, whose
mean is the logit. The authors' ReLU after that map is left out: a logit that it holds at zero would
hide its gradient from attacks. Weights begin as He et al. (2015) have it: there is no BatchNorm.
"""

from torch import Tensor, nn

from tradeoff.networks.preprocess import scaled


class NIN(nn.Module):
    def __init__(self, channels: int, classes: int, width: float) -> None:
        super().__init__()
        wide, middle, thin = (scaled(count, width) for count in (192, 160, 96))
        self.features = nn.Sequential(
            *_mlpconv(channels, 5, wide, middle, thin),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.Dropout(0.5),
            *_mlpconv(thin, 5, wide, wide, wide),
            nn.AvgPool2d(3, stride=2, padding=1),
            nn.Dropout(0.5),
            *_mlpconv(wide, 3, wide, wide, classes)[:-1],
        )
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.features(images).mean((2, 3))
        return logits


def _mlpconv(channels: int, kernel: int, first: int, second: int, third: int) -> list[nn.Module]:
    """A convolution and two of 1x1, a small perceptron that slides over the maps."""
    return [
        nn.Conv2d(channels, first, kernel, padding=kernel // 2),
        nn.ReLU(inplace=True),
        nn.Conv2d(first, second, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(second, third, 1),
        nn.ReLU(inplace=True),
    ]


def build(image: tuple[int, int, int], classes: int, width: float) -> nn.Module:
    """The network after its preprocessing: normalised images (N, *image) to logits."""
    return NIN(image[0], classes, width)
