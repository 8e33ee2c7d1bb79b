"""The figure of adversarial examples, from the sheet that the stage examples drew."""

from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from tradeoff.core.study import Study
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.results import Results
from tradeoff.reporting.style import INK, looks

TILE = 0.62  # inches


def examples(architecture: str, study: Study, results: Results, labels: Labels) -> Figure:
    """The images, and for each defense their perturbations and adversarial twins with what the
    model says of them; a column for each image.

    Raises:
        ValueError: the sheet is not as large as its table says.
    """
    table = results.examples[results.examples["architecture"] == architecture]
    defenses = [name for name in study.axes.defenses if name in set(table["defense"])]
    tiles = read_sheet(results)
    count = tiles.shape[1]
    rows = 1 + 2 * len(defenses)
    figure = Figure(figsize=(1.0 + (TILE + 0.12) * count, (TILE + 0.17) * rows + 0.2),
                    layout="constrained")  # fmt: skip
    grid = figure.subplots(rows, count, squeeze=False, gridspec_kw={"hspace": 0.02, "wspace": 0.04})
    colours = {name: look.colour for name, look in looks(study.axes.defenses).items()}
    labels_of = table.drop_duplicates("image").sort_values("image")["label"]
    for column, label in enumerate(labels_of):
        _tile(grid[0][column], tiles[0, column], labels("examples.label", label=label), INK)
    _name(grid[0][0], labels("examples.clean"), INK)
    for place, defense in enumerate(defenses):
        own = table[table["defense"] == defense].sort_values("image")
        upper, lower = grid[1 + 2 * place], grid[2 + 2 * place]
        _name(upper[0], f"{labels.name('defenses', defense)}\nδ", colours[defense])
        _name(lower[0], "x + δ", colours[defense])
        for column, row in enumerate(own.to_dict("records")):
            said = labels("examples.says", prediction=row["clean_prediction"],
                          confidence=f"{100 * row['clean_confidence']:.0f}")  # fmt: skip
            fooled = labels("examples.says", prediction=row["prediction"],
                            confidence=f"{100 * row['confidence']:.0f}")  # fmt: skip
            _tile(upper[column], tiles[row["row"], column], said, INK)
            wrong = row["prediction"] != row["label"]
            _tile(lower[column], tiles[row["row"] + 1, column], fooled, INK, wrong)
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
    panel: Axes, pixels: NDArray[np.uint8], text: str, colour: str, strong: bool = False
) -> None:
    panel.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    panel.grid(False)
    panel.set_xticks([])
    panel.set_yticks([])
    panel.spines[:].set_visible(True)
    panel.spines[:].set_linewidth(1.6 if strong else 0.4)
    panel.set_title(text, fontsize=6, loc="center", pad=1.5, color=colour,
                    weight="bold" if strong else "normal")  # fmt: skip


def _name(panel: Axes, text: str, colour: str) -> None:
    panel.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=7, color=colour)
