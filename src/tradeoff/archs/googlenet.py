"""GoogLeNet (Szegedy et al. 2015) with BatchNorm in its 32x32 form: 3x3 stem, no pooling before 3a.

5 602 474 parameters for 3 channels and 10 classes: torchvision's network without its auxiliary
classifiers. Blocks and names are torchvision's, so that its ImageNet weights load wherever shapes
fit; as there, the branch of the paper's 5x5 convolution has one of 3x3.
"""

from torch import Tensor, nn
from torchvision.models.googlenet import BasicConv2d, Inception

from tradeoff.networks.preprocess import scaled

# 1x1; 3x3, reduced before; 5x5, reduced before; after the pool: the paper's table 1.
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


class GoogLeNet(nn.Module):
    def __init__(self, channels: int, classes: int, width: float) -> None:
        super().__init__()
        stem, channels_in = scaled(64, width), scaled(192, width)
        self.conv1 = BasicConv2d(channels, stem, kernel_size=3, padding=1)
        self.conv2 = BasicConv2d(stem, stem, kernel_size=1)
        self.conv3 = BasicConv2d(stem, channels_in, kernel_size=3, padding=1)
        for name, published in INCEPTIONS.items():
            if name in ("4a", "5a"):
                self.add_module(f"pool{name}", nn.MaxPool2d(3, stride=2, padding=1))
            one, reduced3, three, reduced5, five, pooled = (scaled(c, width) for c in published)
            self.add_module(
                f"inception{name}",
                Inception(channels_in, one, reduced3, three, reduced5, five, pooled),
            )
            channels_in = one + three + five + pooled
        self.fc = nn.Linear(channels_in, classes)

    def forward(self, images: Tensor) -> Tensor:
        *layers, last = self.children()
        for layer in layers:
            images = layer(images)
        return last(images.mean((2, 3)))


def build(image: tuple[int, int, int], classes: int, width: float) -> nn.Module:
    """The network after its preprocessing: normalised images (N, *image) to logits."""
    return GoogLeNet(image[0], classes, width)
