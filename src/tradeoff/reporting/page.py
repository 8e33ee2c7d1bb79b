"""One page of one evaluation: verdict, RA over epsilon, classes, masking flags, worst images."""

import math
from base64 import b64encode
from importlib import import_module
from inspect import signature
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from tradeoff.attacks.suites.ledger import Array, Ledger
from tradeoff.core.files import atomic_write
from tradeoff.evaluation.anymodel import Evaluation
from tradeoff.evaluation.norms import nearest, robust_accuracy
from tradeoff.reporting.style import INK, RC
from tradeoff.reporting.vector import colour_rules, lay_out, to_inline_svg

TEMPLATE = "evaluation.html.j2"
WORST = 8  # images that are shown
SIDE = 96  # pixels of each, at least


class Worst(NamedTuple):
    """An image that a small perturbation is enough for."""

    picture: str
    label: int
    prediction: int
    attack: str
    norm: float


def write_page(result: Evaluation, images: Tensor, path: Path, title: str | None = None) -> None:
    """Write a page of HTML that needs nothing beside it.

    Args:
        images: those given to `evaluate`, (N, C, H, W) in [0, 1].
        title: what the model is called; its class if it is not told.
    """
    ledger, metrics = result
    light, dark = map(Markup, colour_rules())
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template(TEMPLATE).render(
        title=title or ledger.about["cell"],
        ledger=ledger,
        metrics=metrics,
        curve=_curve(ledger) if _seeks_the_nearest(ledger) else None,
        worst=_worst(ledger, images),
        rows=_rows(ledger),
        budgets=_budgets(ledger),
        classes=_classes(ledger, metrics),
        light=light,
        dark=dark,
    )
    with atomic_write(path) as partial:
        partial.write_text(text, "utf-8")


def _minimum(ledger: Ledger) -> Array:
    """The least norm of the threat's kind that fools each image, 0 where it is wrong anyway."""
    wrong = ledger["clean_prediction"][0] != ledger["labels"]
    return np.where(wrong, 0.0, nearest(ledger, "best", ledger.about["threat"]["norm"]))


def _curve(ledger: Ledger) -> Markup:
    """RA over epsilon; beyond the threat's, bounded attacks have not looked."""
    minimum, threat = _minimum(ledger), ledger.about["threat"]
    finite = minimum[np.isfinite(minimum)]
    end = 1.1 * max(threat["epsilon"], float(finite.max()) if len(finite) else 0.0, 1e-6)
    epsilons = np.linspace(0, end, 200)
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(6, 2.6), layout="constrained")
        panel = figure.subplots()
        panel.plot(epsilons, 100 * robust_accuracy(minimum, epsilons), color="#0072b2")
        panel.axvline(threat["epsilon"], color=INK, linewidth=0.8, linestyle=(0, (1, 1.5)))
        panel.set(xlim=(0, end), ylim=(0, 100), ylabel="RA in %",
                  xlabel=f"epsilon in {threat['norm']}")  # fmt: skip
        lay_out(figure)
        return to_inline_svg(
            figure, "curve", "Robust accuracy over epsilon",
            f"From {100 * float((minimum > 0).mean()):.1f} % at epsilon 0 to "
            f"{100 * float(robust_accuracy(minimum, np.array([end]))[0]):.1f} % at {end:.3g}.",
        )  # fmt: skip


def _seeks_the_nearest(ledger: Ledger) -> bool:
    """Whether an attack of the suite minimises the norm: then it does without a threat. The others
    go as far as they may, and tell nothing of smaller radii."""
    names = {entry["attack"] for entry in ledger.about["attacks"].values()}
    attacks = [getattr(import_module(f"tradeoff.attacks.{name}"), name) for name in names]
    return any("threat" not in signature(attack).parameters for attack in attacks)


def _budgets(ledger: Ledger) -> list[tuple[str, str]]:
    """Each entry of the suite with its knobs in words."""
    return [
        (name, ", ".join(f"{knob} {value}" for knob, value in entry.items() if knob != "attack"))
        for name, entry in ledger.about["attacks"].items()
        if len(entry) > 1
    ]


def _classes(ledger: Ledger, metrics: dict[str, Any]) -> list[tuple[int, int, float, float]]:
    """Of each class that has images: its number, their count, NA and RA."""
    labels, shares = ledger["labels"], metrics["per_class"]
    right = ledger["clean_prediction"][0] == labels
    return [
        (number, int((labels == number).sum()), float(right[labels == number].mean()), share)
        for number, share in enumerate(shares)
        if share is not None
    ]


def _rows(ledger: Ledger) -> list[dict[str, Any]]:
    """What each attack did: images attempted, share of them fooled, passes."""
    rows = []
    for number, name in enumerate(ledger.attacks):
        attempted = int(ledger["attempted"][0, number].sum())
        fooled = int((ledger["fooled"] & ledger["attempted"])[0, number].sum())
        passes = int(ledger["queries"][0, number].sum())
        rows.append({"name": name, "attempted": attempted, "fooled": fooled, "passes": passes})
    return rows


def _worst(ledger: Ledger, images: Tensor) -> list[Worst]:
    """The images that the smallest perturbations fool, of those that are right as they are."""
    norm, chosen = ledger.about["threat"]["norm"], ledger.about["chosen"]
    minimum = np.where(_minimum(ledger) > 0, _minimum(ledger), math.inf)
    nearest_images = []
    for row in np.argsort(minimum, kind="stable")[:WORST]:
        if not np.isfinite(minimum[row]):
            break
        fooled = (ledger["attempted"] & ledger["fooled"])[0, :, row]
        attack = int(np.where(fooled, ledger[norm][0, :, row], math.inf).argmin())
        image = images[int(row) if chosen is None else chosen[row]]
        nearest_images.append(
            Worst(
                _picture(image), int(ledger["labels"][row]),
                int(ledger["prediction"][0, attack, row]), ledger.attacks[attack],
                float(minimum[row]),
            )
        )  # fmt: skip
    return nearest_images


def _picture(image: Tensor) -> str:
    """An image (C, H, W) as the address of a PNG inside the page; other than 1 or 3 channels as
    the mean over them."""
    visible = image if image.shape[0] in (1, 3) else image.mean(0, keepdim=True)
    pixels = (255 * visible).round().byte().cpu().numpy()
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    times = max(1, math.ceil(SIDE / max(picture.size)))
    picture = picture.resize(
        (times * picture.width, times * picture.height), Image.Resampling.NEAREST
    )
    file = BytesIO()
    picture.save(file, "PNG")
    return "data:image/png;base64," + b64encode(file.getvalue()).decode()
