"""The figure of input gradients, from the sheet that the stage examples drew."""

from functools import partial
from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from tradeoff.reporting.pictures.examples import GAP, WIDTH, read_sheet
from tradeoff.reporting.pictures.picture import Picture, picture
from tradeoff.reporting.results import Results
from tradeoff.reporting.style import INK
from tradeoff.reporting.view import View

NAMES = 1.5  # what the defenses' names take, in tiles


def pictures(view: View) -> list[Picture]:
    """One for each architecture; none without a sheet."""
    if None in (view.results.sheet, view.results.gradient_sheet):
        return []
    return [
        picture(view, "gradients", partial(draw, view, architecture),
                view("figures.gradients.alt", architecture=view.network(architecture)),
                part=architecture, name=view.network(architecture))
        for architecture in view.architectures if rows(view, architecture)
    ]  # fmt: skip


def rows(view: View, architecture: str) -> dict[str, int]:
    """In which row of the sheet the gradients of each defense are."""
    table = view.results.gradients
    table = table[(table["architecture"] == architecture) & (table["row"] > 0)]
    places = dict(zip(table["defense"], table["row"].astype(int), strict=True))
    return {name: places[name] for name in view.defenses if name in places}


def read_tiles(results: Results) -> NDArray[np.uint8]:
    """The tiles of the sheet, as large as those of the examples, (rows, images, H, W, ...)."""
    assert results.gradient_sheet is not None
    pixels = np.asarray(Image.open(BytesIO(results.gradient_sheet)))
    height, width = read_sheet(results).shape[2:4]
    tiles = pixels.reshape(-1, height, pixels.shape[1] // width, width, *pixels.shape[2:])
    return tiles.swapaxes(1, 2)


def draw(view: View, architecture: str) -> Figure:
    """The images in the first row, and below them each defense's gradients at them.

    Raises:
        ValueError: the sheet does not have the examples' tiles.
    """
    tiles, chosen = read_tiles(view.results), rows(view, architecture)
    across, down = tiles.shape[1], len(chosen) + 1
    width = across * (1 + GAP) + NAMES
    figure = Figure(figsize=(WIDTH, WIDTH * down * (1 + GAP) / width), layout="constrained")
    panel = figure.subplots()
    panel.set_axis_off()
    for place, (name, row) in enumerate({"": 0, **chosen}.items()):
        top = place * (1 + GAP)
        colour = view.looks[name].colour if name else INK
        panel.text(-0.1, top + 0.5, view.name(name) if name else "x", ha="right", va="center",
                   fontsize=7, color=colour)  # fmt: skip
        for column in range(across):
            left = column * (1 + GAP)
            panel.imshow(tiles[row, column], cmap="gray", vmin=0, vmax=255, interpolation="nearest",
                         extent=(left, left + 1, top + 1, top))  # fmt: skip
    panel.set_xlim(-NAMES, across * (1 + GAP))
    panel.set_ylim(down * (1 + GAP), -0.05)
    panel.set_aspect("equal")
    return figure
