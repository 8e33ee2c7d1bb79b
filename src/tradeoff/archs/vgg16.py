"""VGG16 with BatchNorm (Simonyan & Zisserman 2015) in its 32x32 form: one linear layer at the end.

14 728 266 parameters for 3 channels and 10 classes. Module names are torchvision's, so that its
ImageNet weights load wherever shapes fit.
"""

from torch import Tensor, nn

from tradeoff.networks.preprocess import scaled

LAYERS = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool",
          512, 512, 512, "pool", 512, 512, 512, "pool")  # fmt: skip


class Pool(nn.MaxPool2d):
    """Halve the resolution until one pixel is left: inputs smaller than 32x32 get there early."""

    def forward(self, features: Tensor) -> Tensor:
        return features if features.shape[-1] == 1 else super().forward(features)


class VGG16(nn.Module):
    def __init__(self, channels: int, classes: int, width: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for layer in LAYERS:
            if isinstance(layer, str):
                layers.append(Pool(2))
                continue
            out = scaled(layer, width)
            layers += [
                nn.Conv2d(channels, out, 3, padding=1),
                nn.BatchNorm2d(out),
                nn.ReLU(inplace=True),
            ]
            channels = out
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images).mean((2, 3)))


def build(channels: int, classes: int, width: float) -> nn.Module:
    """The network after its preprocessing: normalised images (N, channels, H, W) to logits."""
    return VGG16(channels, classes, width)
