"""What the report says of fairness, of lambda and of its own limits, by rules."""

from collections import Counter
from math import sqrt

import numpy as np
import pandas as pd

from tradeoff.core.study import Study
from tradeoff.core.tables import CONTROL, FIXED, PROPOSAL
from tradeoff.reporting.estimates import WEIGHT, estimate
from tradeoff.reporting.evidence import norm_images
from tradeoff.reporting.figures import class_columns, histories_of
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.missing import seed_sentence, valued
from tradeoff.reporting.results import Results, worst
from tradeoff.reporting.setting import radius


def fairness(study: Study, results: Results, labels: Labels) -> list[str]:
    """For each architecture who has the highest RA of the worst class, how far below it is the
    proposal's, and which class is worst most often."""
    text = []
    for architecture in study.axes.architectures:
        means = {}
        for defense in study.axes.defenses:
            one = estimate(results.group(defense, architecture)["RA_worst_class"])
            if one is not None:
                means[defense] = one
        if not means:
            continue
        lead = max(means, key=lambda name: means[name].mean)
        said = labels("fairness.leads", architecture=labels.name("architectures", architecture),
                      leader=labels.name("defenses", lead),
                      value=valued(means[lead], len(study.axes.seeds), labels))  # fmt: skip
        if PROPOSAL in means and lead != PROPOSAL:
            gap = means[lead].mean - means[PROPOSAL].mean
            said += " " + labels("fairness.behind", gap=labels.percent(gap),
                                 proposal=labels.name("defenses", PROPOSAL))  # fmt: skip
        counts, models = worst_classes(architecture, study, results)
        if models:
            most = max(counts.values())
            top = [str(index) for index, count in sorted(counts.items()) if count == most]
            key = "fairness.class" if len(top) == 1 else "fairness.classes"
            if CONTROL in study.axes.defenses:
                key += "_but"
            said += " " + labels(key, worst=labels.enumerate(top), count=most, all=models,
                                 control=labels.name("defenses", CONTROL))  # fmt: skip
        text.append(said)
    return text


def worst_classes(architecture: str, study: Study, results: Results) -> tuple[Counter[int], int]:
    """In how many models no class has a lower RA, by class, and of how many models.

    Several classes of a model may share the least RA: each of them counts. The control is left
    out: with next to no robust accuracy all of its classes are worst.
    """
    counts: Counter[int] = Counter()
    models = 0
    for defense in study.axes.defenses:
        if defense == CONTROL:
            continue
        rows = results.seed_class_accuracies(defense, architecture).dropna(how="all")
        models += len(rows)
        least = rows.apply(worst, axis=1)
        counts.update({int(str(index)): int(count) for index, count in least.sum().items()})
    return counts, models


def weights(defense: str, study: Study, results: Results, labels: Labels) -> list[str]:
    """For each architecture lambda's mean in the first and in the last epoch, the share that the
    entropy term has of it, and the classes that have most and least of it."""
    text = []
    knobs = study.knobs[defense].model_dump()
    for architecture in study.axes.architectures:
        histories = [history for history in histories_of(results, defense, architecture)
                     if "lambda_mean" in history]  # fmt: skip
        first, last = (
            pd.DataFrame([history.iloc[place] for history in histories]).mean(numeric_only=True)
            for place in (0, -1)
        )
        if not histories or last.get("lambda_mean", 0) <= 0:
            continue
        said = labels("lambda.of", architecture=labels.name("architectures", architecture),
                      first=labels.printed(first["lambda_mean"], WEIGHT),
                      last=labels.printed(last["lambda_mean"], WEIGHT))  # fmt: skip
        if "entropy_mean" in last and "alpha" in knobs:
            share = knobs["alpha"] * last["entropy_mean"] / last["lambda_mean"]
            said += " " + labels("lambda.share", share=labels.percent(share))
        classes = class_columns(histories[0], "lambda")
        if len(classes) > 1:
            by_class = last[classes]
            ends = [str(name).rpartition("_")[2] for name in (by_class.idxmax(), by_class.idxmin())]
            said += " " + labels("lambda.classes", most=ends[0], least=ends[1],
                                 high=labels.printed(by_class.max(), WEIGHT),
                                 low=labels.printed(by_class.min(), WEIGHT))  # fmt: skip
        text.append(said)
    if text and FIXED in study.axes.defenses:
        beta = labels.number(study.knobs[FIXED].model_dump()["beta"])
        text.append(labels("lambda.control", fixed=labels.name("defenses", FIXED), beta=beta))
    fewer = seed_sentence("histories", study, results, labels, [defense])
    return [*text, fewer] if text and fewer else text


def limits(study: Study, results: Results, labels: Labels) -> list[str]:
    """What the numbers cannot show, stated from them."""
    found = [
        _seeds(study, results, labels),
        _images(results, labels),
        _epochs(study, results, labels),
        _attacks(results, labels),
        _threat(results, labels),
        _widths(study, results, labels),
        _flags(results, labels),
        _missing(results, labels),
        labels("setting.limit", limit=limit) if (limit := results.dataset.split.limit) else "",
    ]
    return [text for text in found if text]


def _seeds(study: Study, results: Results, labels: Labels) -> str:
    count = len(study.axes.seeds)
    if count == 1:
        return labels("limits.one_seed")
    table = results.detectable
    known = table[(table["metric"] == "RA") & table["detectable"].notna()]
    pairs = known[(known["one"] == PROPOSAL) | (known["other"] == PROPOSAL)]["detectable"]
    if pairs.empty:
        return labels("limits.seeds", seeds=count)
    return labels("limits.seeds_detectable", seeds=count, low=labels.percent(pairs.min()),
                  high=labels.percent(pairs.max()),
                  proposal=labels.name("defenses", PROPOSAL))  # fmt: skip


def _images(results: Results, labels: Labels) -> str:
    counts = results.cells["images"].dropna()
    if counts.empty:
        return ""
    images = int(counts.min())
    cells = results.cells.dropna(subset=["NA", "images_bounded"])
    # Of a share p of n images, by their choice alone.
    natural = np.sqrt(cells["NA"] * (1 - cells["NA"]) / cells["images_bounded"]).max()
    table = results.attacks
    rows = table[(table["attack"] == "all") & (table["version"] == "best")]
    by_class = rows[rows["class"] != "all"]["images"]
    # The standard deviation of a share is largest at one half.
    text = labels("limits.images", images=images, error=labels.percent(0.5 / sqrt(images)),
                  natural=int(cells["images_bounded"].min()),
                  natural_error=labels.percent(float(natural)))  # fmt: skip
    if len(by_class) and by_class.min() > 0:
        fewest = int(by_class.min())
        text += " " + labels("limits.class_images", images=fewest, step=labels.percent(1 / fewest))
    return text


def _epochs(study: Study, results: Results, labels: Labels) -> str:
    """How many cells chose one of the last epochs: they might have gone on improving."""
    epochs = results.dataset.train.epochs
    late = [
        key for key, history in results.histories.items()
        if (history.loc[history["selected"] == 1, "epoch"] >= history["epoch"].max()).any()
    ]  # fmt: skip
    if not results.histories:
        return ""
    return labels("limits.epochs", epochs=epochs, late=len(late), all=len(results.histories))


def _attacks(results: Results, labels: Labels) -> str:
    for suite in results.dataset.suites.values():
        for attack in suite.attacks:
            if attack.module != "autoattack":
                continue
            paper = type(attack.knobs)()  # its defaults are the standard version's
            unused = {"plus_restarts": paper.model_dump()["plus_restarts"]}
            if attack.knobs.model_copy(update=unused) != paper:
                return labels("limits.autoattack")
    return ""


def _threat(results: Results, labels: Labels) -> str:
    """What is known of other norms and radii than the threat's."""
    threat = results.dataset.threat
    others = [labels.name("norms", norm) for norm in results.norms["norm"].unique()
              if norm != threat.norm]  # fmt: skip
    own = {"norm": labels.name("norms", threat.norm), "radius": radius(threat.epsilon, labels)}
    if not others:
        return labels("limits.threat_alone", **own)
    return labels("limits.threat", **own, others=labels.enumerate(others),
                  images=norm_images(results, labels))  # fmt: skip


def _widths(study: Study, results: Results, labels: Labels) -> str:
    narrow = [
        labels("limits.width", name=labels.name("architectures", name),
               width=labels.number(results.dataset.models[name].width))
        for name in study.axes.architectures
        if results.dataset.models[name].width < 1
    ]  # fmt: skip
    return labels("limits.widths", parts=labels.enumerate(narrow)) if narrow else ""


def _flags(results: Results, labels: Labels) -> str:
    raised = results.masking[results.masking["raised"] == "True"]
    cells = len(raised.drop_duplicates(["defense", "architecture", "seed"]))
    return labels("limits.flags", cells=cells, all=len(results.cells)) if cells else ""


def _missing(results: Results, labels: Labels) -> str:
    missing, everything = len(results.missing_cells), len(results.expected)
    if not missing:
        return ""
    return labels("limits.missing", missing=missing, all=everything)
