"""The figure of input gradients, from the sheet that the stage examples drew."""

from io import BytesIO
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from tradeoff.reporting.pictures import drawing
from tradeoff.reporting.pictures.examples import GAP, WIDTH, read_sheet
from tradeoff.reporting.pictures.picture import Picture, in_parts, picture
from tradeoff.reporting.results import Results
from tradeoff.reporting.style import INK
from tradeoff.reporting.view import View

NAMES = 2.6  # what the defenses' names take, in tiles
LETTERS = 15  # of a name in a line
MOST_DEFENSES = 24  # in one picture


def pictures(view: View) -> list[Picture]:
    """One for each architecture, or several where one would not fit; none without a sheet."""
    if None in (view.results.sheet, view.results.gradient_sheet):
        return []
    return [
        picture(view, "gradients", draw, description, architecture, some, part=part,
                name=view.network(architecture))
        for architecture in view.architectures
        for part, some in in_parts(architecture, list(rows(view, architecture)), MOST_DEFENSES)
    ]  # fmt: skip


def description(view: View, architecture: str, _: list[str]) -> str:
    return view("figures.gradients.alt", architecture=view.network(architecture))


def rows(view: View, architecture: str) -> dict[str, int]:
    """The row of the sheet that has the gradients of a defense, by defense."""
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


def draw(view: View, architecture: str, defenses: list[str]) -> Figure:
    """The images in the first row, and below them each defense's gradients at them; twice, side by
    side, with half of the defenses each.

    Raises:
        ValueError: the sheet does not have the examples' tiles.
    """
    tiles, chosen = read_tiles(view.results), rows(view, architecture)
    half = -(-len(defenses) // 2)
    across, down = tiles.shape[1], half + 1
    column_width = NAMES + across * (1 + GAP)
    height = min(WIDTH * down * (1 + GAP) / (2 * column_width), drawing.FIELD_HEIGHT)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    panel = figure.subplots()
    panel.set_axis_off()
    for side, some in enumerate((defenses[:half], defenses[half:])):
        for place, name in enumerate(["", *some] if some else []):
            top, left = place * (1 + GAP), side * column_width + NAMES
            colour = view.looks[name].colour if name else INK
            text = fill(view.name(name), LETTERS, break_long_words=False) if name else "x"
            panel.text(left - 0.15, top + 0.5, text, ha="right", va="center", fontsize=6,
                       color=colour)  # fmt: skip
            row = chosen[name] if name else 0
            for column in range(across):
                start = left + column * (1 + GAP)
                panel.imshow(tiles[row, column], cmap="gray", vmin=0, vmax=255,
                             interpolation="nearest",
                             extent=(start, start + 1, top + 1, top))  # fmt: skip
    panel.set_xlim(0, 2 * column_width)
    panel.set_ylim(down * (1 + GAP), -0.05)
    panel.set_aspect("equal")
    return figure
