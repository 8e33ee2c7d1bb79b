"""The figure of adversarial examples, from the sheet that the stage examples drew."""

from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from tradeoff.core.study import Study
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.panels import PANEL_WIDTH
from tradeoff.reporting.results import Results
from tradeoff.reporting.style import INK, looks

WIDTH = 2 * PANEL_WIDTH
GAP = 0.1  # between neighbouring tiles, of a tile's width
LINE = 0.34  # above each tile for what the model says, of a tile's width


def examples(architecture: str, study: Study, results: Results, labels: Labels) -> Figure:
    """An image in each row: as it is, and for each defense its perturbation and the adversarial
    image, with what the model says of both.

    Raises:
        ValueError: the sheet is not as large as its table says.
    """
    table = results.examples[results.examples["architecture"] == architecture]
    defenses = [name for name in study.axes.defenses if name in set(table["defense"])]
    tiles = read_sheet(results)
    count, columns = tiles.shape[1], 1 + 2 * len(defenses)
    across, down = columns * (1 + GAP), count * (1 + LINE)
    figure = Figure(figsize=(WIDTH, WIDTH * (down + 0.9) / across), layout="constrained")
    panel = figure.subplots()
    panel.set_axis_off()
    colours = {name: look.colour for name, look in looks(study.axes.defenses).items()}
    labels_of = table.drop_duplicates("image").sort_values("image")["label"]
    for row, label in enumerate(labels_of):
        _tile(panel, tiles[0, row], 0, row, labels("examples.label", label=label), False)
    panel.text(0.5, -0.15, "x", ha="center", fontsize=7)
    for place, defense in enumerate(defenses):
        column = 1 + 2 * place
        left = column * (1 + GAP)
        panel.text(left + 1 + GAP / 2, -0.5, labels.name("defenses", defense), ha="center",
                   fontsize=7, color=colours[defense], weight="bold")  # fmt: skip
        for offset, text in enumerate(("δ", "x + δ")):
            middle = left + 0.5 + offset * (1 + GAP)
            panel.text(middle, -0.15, text, ha="center", fontsize=7)
        for row, found in enumerate(
            table[table["defense"] == defense].sort_values("image").to_dict("records")
        ):
            for offset, prefix in enumerate(("clean_", "")):
                said = labels("examples.says", prediction=found[f"{prefix}prediction"],
                              confidence=f"{100 * found[f'{prefix}confidence']:.0f}")  # fmt: skip
                wrong = found[f"{prefix}prediction"] != found["label"]
                _tile(panel, tiles[found["row"] + offset, row], column + offset, row, said, wrong)
    panel.set_xlim(-0.05, across)
    panel.set_ylim(down + 0.05, -0.75)
    panel.set_aspect("equal")
    return figure


def read_sheet(results: Results) -> NDArray[np.uint8]:
    """The tiles of the sheet, (rows, images, H, W) or (rows, images, H, W, 3)."""
    if results.sheet is None:
        raise ValueError("there is no sheet of examples")
    pixels = np.asarray(Image.open(BytesIO(results.sheet)))
    across, down = results.examples["image"].nunique(), int(results.examples["row"].max()) + 2
    height, width = pixels.shape[0] // down, pixels.shape[1] // across
    if (height * down, width * across) != pixels.shape[:2] or height == 0 or width == 0:
        raise ValueError(f"a sheet of {pixels.shape[:2]} pixels has no {down} x {across} tiles")
    tiles = pixels.reshape(down, height, across, width, *pixels.shape[2:])
    return tiles.swapaxes(1, 2)


def _tile(
    panel: Axes, pixels: NDArray[np.uint8], column: int, row: int, text: str, strong: bool
) -> None:
    """A tile with the text above it, both bold if the model is wrong there."""
    left, top = column * (1 + GAP), row * (1 + LINE) + LINE
    panel.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest",
                 extent=(left, left + 1, top + 1, top))  # fmt: skip
    panel.text(left + 0.5, top - 0.06, text, ha="center", fontsize=5.2,
               weight="bold" if strong else "normal")  # fmt: skip
    frame = Rectangle(
        (left, top), 1, 1, fill=False, edgecolor=INK, linewidth=1.4 if strong else 0.3
    )
    panel.add_patch(frame)
