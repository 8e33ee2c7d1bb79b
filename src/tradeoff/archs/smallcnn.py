"""The small network of TRADES for MNIST (Zhang et al. 2019): four convolutions, three layers.

312 202 parameters for 28x28 pixels, 1 channel and 10 classes. As there, the last layer begins at
zero, and half of the features before it are dropped in training.
"""

from collections import OrderedDict

from torch import nn

from tradeoff.networks.preprocess import scaled

PADDED = (1, 28)  # its convolutions have no padding: smaller images would vanish


def build(image: tuple[int, int, int], classes: int, width: float) -> nn.Module:
    """The network after its preprocessing: normalised images (N, *image) to logits."""
    channels, *sides = image
    thin, thick, hidden = (scaled(count, width) for count in (32, 64, 200))
    down, across = (((side - 4) // 2 - 4) // 2 for side in sides)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=nn.Conv2d(channels, thin, 3),
        relu1=nn.ReLU(inplace=True),
        conv2=nn.Conv2d(thin, thin, 3),
        relu2=nn.ReLU(inplace=True),
        maxpool1=nn.MaxPool2d(2),
        conv3=nn.Conv2d(thin, thick, 3),
        relu3=nn.ReLU(inplace=True),
        conv4=nn.Conv2d(thick, thick, 3),
        relu4=nn.ReLU(inplace=True),
        maxpool2=nn.MaxPool2d(2),
        flatten=nn.Flatten(),
        fc1=nn.Linear(thick * down * across, hidden),
        relu5=nn.ReLU(inplace=True),
        drop=nn.Dropout(0.5),
        fc2=nn.Linear(hidden, hidden),
        relu6=nn.ReLU(inplace=True),
        fc3=nn.Linear(hidden, classes),
    )
    network = nn.Sequential(layers)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    for parameter in network.get_submodule("fc3").parameters():
        nn.init.zeros_(parameter)
    return network
