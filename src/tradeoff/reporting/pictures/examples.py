"""The figure of adversarial examples, from the sheet that the stage examples drew."""

from io import BytesIO
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

from tradeoff.reporting.pictures import drawing
from tradeoff.reporting.pictures.picture import Picture, in_parts, picture
from tradeoff.reporting.results import Results
from tradeoff.reporting.style import INK
from tradeoff.reporting.view import View

WIDTH = 2 * drawing.PANEL_WIDTH
GAP = 0.1  # between neighbouring tiles, of a tile's width
MOST_DEFENSES = 8  # in one picture
LINE = 0.34  # above each tile for what the model says, of a tile's width


def pictures(view: View) -> list[Picture]:
    """One for each architecture, or several if it has more defenses than fit beside each other."""
    table = view.results.examples
    if table.empty or view.results.sheet is None:
        return []
    factor = view.labels.number(round(float(table["amplification"].iloc[0]), 1))
    figures = []
    for architecture in view.architectures:
        evaluated = set(table[table["architecture"] == architecture]["defense"])
        names = [name for name in view.defenses if name in evaluated]
        figures += [
            picture(view, "examples", draw, description, architecture, some, part=part,
                    name=view.network(architecture), factor=factor)
            for part, some in in_parts(architecture, names, MOST_DEFENSES)
        ]  # fmt: skip
    return figures


def draw(view: View, architecture: str, defenses: list[str]) -> Figure:
    """An image in each row: as it is, and for each defense its perturbation and the adversarial
    image, with what the model says of both.

    Raises:
        ValueError: the sheet is not as large as its table says.
    """
    table = view.results.examples
    table = table[table["architecture"] == architecture].sort_values("image")
    tiles = read_sheet(view.results)
    count, columns = tiles.shape[1], 1 + 2 * len(defenses)
    across, down = columns * (1 + GAP), count * (1 + LINE)
    # A letter of 6 points is some 4 points wide; two tiles are as wide as their defense's name.
    letters = int(72 * WIDTH * 2 / columns / 4)
    titles = [fill(view.name(name), letters, break_long_words=False) for name in defenses]
    above = 0.35 * max(title.count("\n") for title in titles)
    figure = Figure(figsize=(WIDTH, WIDTH * (down + 0.9 + above) / across), layout="constrained")
    panel = figure.subplots()
    panel.set_axis_off()
    for row, label in enumerate(table.drop_duplicates("image")["label"]):
        _tile(panel, tiles[0, row], 0, row, view("examples.label", label=label), False)
    panel.text(0.5, -0.15, "x", ha="center", fontsize=7)
    for place, (defense, title) in enumerate(zip(defenses, titles, strict=True)):
        column = 1 + 2 * place
        left = column * (1 + GAP)
        panel.text(left + 1 + GAP / 2, -0.5, title, ha="center",
                   fontsize=6 if above else 7, color=view.looks[defense].colour,
                   weight="bold")  # fmt: skip
        for offset, text in enumerate(("δ", "x + δ")):
            panel.text(left + 0.5 + offset * (1 + GAP), -0.15, text, ha="center", fontsize=7)
        for row, example in enumerate(table[table["defense"] == defense].to_dict("records")):
            for offset, prefix in enumerate(("clean_", "")):
                text = view("examples.says", prediction=example[f"{prefix}prediction"],
                            confidence=f"{100 * example[f'{prefix}confidence']:.0f}")  # fmt: skip
                wrong = example[f"{prefix}prediction"] != example["label"]
                _tile(panel, tiles[example["row"] + offset, row], column + offset, row, text, wrong)
    panel.set_xlim(-0.05, across)
    panel.set_ylim(down + 0.05, -0.75 - above)
    panel.set_aspect("equal")
    return figure


def description(view: View, architecture: str, defenses: list[str]) -> str:
    """How many of the images PGD makes each defense's model misclassify."""
    table = view.results.examples
    table = table[(table["architecture"] == architecture) & table["defense"].isin(defenses)]
    fooled = (table["prediction"] != table["label"]).groupby(table["defense"]).sum()
    values = [view("figures.examples.alt_value", fooled=int(fooled[name]), defense=view.name(name))
              for name in defenses]  # fmt: skip
    return view("figures.examples.alt", architecture=view.network(architecture),
                images=table["image"].nunique(), values="; ".join(values))  # fmt: skip


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
