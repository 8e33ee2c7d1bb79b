"""VGG16 with BatchNorm (Simonyan & Zisserman 2015) in its 32x32 form: one linear layer at the end.

14 728 266 parameters for 3 channels and 10 classes. Module names are torchvision's, so that its
ImageNet weights load wherever shapes fit.
"""

from torch import Tensor, nn

from tradeoff.networks.preprocess import scaled

LAYERS = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool",
          512, 512, 512, "pool", 512, 512, 512, "pool")  # fmt: skip


class VGG16(nn.Module):
    def __init__(self, channels: int, classes: int, width: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for layer in LAYERS:
            if isinstance(layer, str):
                layers.append(nn.MaxPool2d(2, ceil_mode=True))  # a side of one pixel stays
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


def build(image: tuple[int, int, int], classes: int, width: float) -> nn.Module:
    """The network after its preprocessing: normalised images (N, *image) to logits."""
    return VGG16(image[0], classes, width)
