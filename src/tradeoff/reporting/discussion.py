"""What the report says of fairness, of weights and of its own limits, by rules."""

from collections import Counter
from math import sqrt

import numpy as np
import pandas as pd

from tradeoff.core.tables import CELL
from tradeoff.reporting.answer import unseen
from tradeoff.reporting.coverage import seed_sentence
from tradeoff.reporting.estimates import WEIGHT
from tradeoff.reporting.pictures.weights import (
    class_columns,
    term_name,
    terms_of,
    weighted_defenses,
    weights_of,
)
from tradeoff.reporting.results import worst
from tradeoff.reporting.sentences import by_mean
from tradeoff.reporting.setting import limit_note, radius, standard_autoattack
from tradeoff.reporting.view import View


def fairness(view: View) -> list[str]:
    """For each architecture who has the highest RA of the worst class, how far below it is the
    proposal's, and which class is worst most often."""
    text = []
    for architecture in view.architectures:
        ranked = by_mean(view, architecture, "RA_worst_class")
        if not ranked:
            continue
        estimates, (lead, best) = dict(ranked), ranked[0]
        sentences = [view("fairness.leads", architecture=view.network(architecture),
                          leader=view.name(lead), value=view.with_seed_count(best))]  # fmt: skip
        if view.proposal in estimates and lead != view.proposal:
            gap = view.labels.percent(best.mean - estimates[view.proposal].mean)
            sentences.append(view("fairness.behind", gap=gap, proposal=view.proposal_name))
        counts, models = worst_classes(view, architecture)
        if models:
            most = max(counts.values())
            top = [view.results.class_name(number)
                   for number, count in sorted(counts.items()) if count == most]  # fmt: skip
            key = "fairness.class" if len(top) == 1 else "fairness.classes"
            key += "_but" if view.control else ""
            sentences.append(view(key, worst=view.labels.enumerate(top), count=most, all=models,
                                  control=view.control_name))  # fmt: skip
        text.append(" ".join(sentences))
    return text


def worst_classes(view: View, architecture: str) -> tuple[Counter[int], int]:
    """For each class, in how many models it is the worst one; and the number of models.

    Several classes of a model may share the least RA: each of them counts. The control is left
    out: with next to no robust accuracy all of its classes are worst.
    """
    rows = view.results.class_accuracies().dropna(how="all")
    levels = rows.index.get_level_values
    rows = rows[(levels("architecture") == architecture) & (levels("defense") != view.control)]
    least = rows.apply(worst, axis=1)
    return Counter({int(str(index)): int(count) for index, count in least.sum().items()}), len(rows)


def weights(view: View) -> list[str]:
    """What is said of every defense that weighs images."""
    return [text for defense in weighted_defenses(view) for text in weights_by(view, defense)]


def weights_by(view: View, defense: str) -> list[str]:
    """For each architecture lambda's mean in the first and in the last epoch, the share that each
    of its terms has of it, and the classes that have most and least of it."""
    text = []
    for architecture in view.architectures:
        histories = weights_of(view, (architecture, defense))
        first, last = (
            pd.DataFrame([history.iloc[place] for history in histories]).mean(numeric_only=True)
            for place in (0, -1)
        )
        if not histories or last.get("lambda_mean", 0) <= 0:
            continue
        mean = last["lambda_mean"]
        sentences = [view("lambda.of", architecture=view.network(architecture),
                          first=view.labels.formatted(first["lambda_mean"], WEIGHT),
                          last=view.labels.formatted(mean, WEIGHT))]  # fmt: skip
        shares = [
            view("lambda.share", term=term_name(view, defense, term),
                 share=view.labels.percent(last[f"lambda_{term}_mean"] / mean))
            for term in terms_of(view, defense) if f"lambda_{term}_mean" in last
        ]  # fmt: skip
        if shares:
            sentences.append(view("lambda.shares", shares=view.labels.enumerate(shares)))
        classes = class_columns(histories[0], "lambda")
        if len(classes) > 1:
            by_class = last[classes]
            most, least = (view.results.class_name(int(str(name).rpartition("_")[2]))
                           for name in (by_class.idxmax(), by_class.idxmin()))  # fmt: skip
            sentences.append(view("lambda.classes", most=most, least=least,
                                  high=view.labels.formatted(by_class.max(), WEIGHT),
                                  low=view.labels.formatted(by_class.min(), WEIGHT)))  # fmt: skip
        text.append(" ".join(sentences))
    if text and view.baseline and defense == view.proposal:
        text.append(view("lambda.control", fixed=view.name(view.baseline)))
    fewer = seed_sentence(view, "histories", [defense])
    return [*text, fewer] if text and fewer else text


def limits(view: View) -> list[str]:
    """What the results cannot show, from the numbers and settings that limit them."""
    missing, count = len(view.results.missing_cells), len(view.results.expected)
    text = [
        view("limits.one_seed") if len(view.seeds) == 1 else unseen(view),
        _images(view),
        _epochs(view),
        "" if standard_autoattack(view) else view("limits.autoattack"),
        _first_images(view),
        _few_classes(view),
        _threat(view),
        _widths(view),
        _flags(view),
        view("limits.missing", missing=missing, all=count) if missing else "",
        limit_note(view),
    ]
    return [sentence for sentence in text if sentence]


def _images(view: View) -> str:
    percent, results = view.labels.percent, view.results
    cells = results.cells.dropna(subset=["NA", "images", "images_bounded"])
    if cells.empty:
        return ""
    images = int(cells["images"].min())
    # Of a share p of n images, by their choice alone.
    natural = np.sqrt(cells["NA"] * (1 - cells["NA"]) / cells["images_bounded"]).max()
    # The standard deviation of a share is largest at one half.
    text = view("limits.images", images=images, error=percent(0.5 / sqrt(images)),
                natural=int(cells["images_bounded"].min()),
                natural_error=percent(float(natural)))  # fmt: skip
    rows = results.attacks[results.attacks[["attack", "version"]].eq(["all", "best"]).all(axis=1)]
    by_class = rows[rows["class"] != "all"]["images"]
    if len(by_class) and by_class.min() > 0:
        fewest = int(by_class.min())
        text += " " + view("limits.class_images", images=fewest, step=percent(1 / fewest))
    return text


def _epochs(view: View) -> str:
    """How many cells chose the last epoch: they might have gone on improving."""
    histories = view.results.histories.values()
    late = [
        (history.loc[history["selected"] == 1, "epoch"] >= history["epoch"].max()).any()
        for history in histories
    ]
    return view("limits.epochs", epochs=view.results.dataset.train.epochs, late=sum(late),
                all=len(late)) if late else ""  # fmt: skip


def _first_images(view: View) -> str:
    """Which of the attacks that RA counts tried the first images only: of the others RA is an upper
    bound."""
    suites, name = view.results.dataset.suites, view.labels.name
    parts = [
        view("limits.first", attack=name("attacks", attack.name), images=attack.images)
        for suite in suites if suite in ("bounded", "autoattack")
        for attack in suites[suite].attacks if attack.images is not None
    ]  # fmt: skip
    return view("limits.first_images", parts=view.labels.enumerate(parts)) if parts else ""


def _few_classes(view: View) -> str:
    """Which part of AutoAttack is not defined for so few classes."""
    parts, name = view.results.autoattack_parts, view.labels.name
    if not parts or "apgd-t" in parts:
        return ""
    ran = view.labels.enumerate([name("attacks", part) for part in parts])
    return view("limits.few_classes", missing=name("attacks", "apgd-t"), parts=ran)


def _threat(view: View) -> str:
    """What is known of other norms and radii than the threat's."""
    threat, name = view.results.dataset.threat, view.labels.name
    others = [name("norms", norm) for norm in view.results.norms["norm"].unique()
              if norm != threat.norm]  # fmt: skip
    values = {"norm": name("norms", threat.norm), "radius": radius(view, threat.epsilon)}
    if not others:
        return view("limits.threat_alone", **values)
    return view("limits.threat", **values, others=view.labels.enumerate(others),
                images=view.labels.counts(view.results.norms["images"]))  # fmt: skip


def _widths(view: View) -> str:
    models = view.results.dataset.models
    narrow = [
        view("limits.width", name=view.network(name), width=view.labels.number(models[name].width))
        for name in view.architectures if models[name].width < 1
    ]  # fmt: skip
    return view("limits.widths", parts=view.labels.enumerate(narrow)) if narrow else ""


def _flags(view: View) -> str:
    judged = view.results.judged
    cells = len(judged[judged["raised"]].drop_duplicates(list(CELL)))
    return view("limits.flags", cells=cells, all=len(view.results.cells)) if cells else ""
