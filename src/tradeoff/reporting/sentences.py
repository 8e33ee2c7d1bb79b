"""What the report says in words about its numbers, by rules; it judges nothing beyond them."""

from tradeoff.reporting.estimates import Estimate, estimate, within_one_sd
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.results import Results
from tradeoff.study import Cell, Study


def leaders(study: Study, results: Results, labels: Labels) -> list[str]:
    """For each architecture, who leads in NA and in RA, and whether others are within one sd."""
    return [
        _leader(architecture, metric, study, results, labels)
        for architecture in study.axes.architectures
        for metric in ("NA", "RA")
    ]


def _leader(architecture: str, metric: str, study: Study, results: Results, labels: Labels) -> str:
    found = [
        (defense, estimate(results.group(defense, architecture)[metric]))
        for defense in study.axes.defenses
    ]
    known = [(defense, one) for defense, one in found if one is not None]
    # Stable: of equal means, the one that params.yaml names first.
    known.sort(key=lambda item: -item[1].mean)
    where = {
        "architecture": labels.name("architectures", architecture),
        "metric": labels(f"metric_names.{metric}"),
    }
    if not known:
        return labels("sentences.nobody", **where)
    (defense, lead), rivals = known[0], known[1:]
    where["leader"] = _named(defense, lead, study, labels)
    if not rivals:
        return labels("sentences.alone", **where)

    near = [item for item in rivals if within_one_sd(lead, item[1])]
    unjudged = [item for item in rivals if within_one_sd(lead, item[1]) is None]
    text = [labels("sentences.leads", **where, second=_named(*rivals[0], study, labels))]
    if near:
        names = labels.enumerate([labels.name("defenses", rival) for rival, _ in near])
        key = "sentences.near" if len(near) == 1 else "sentences.near_many"
        text.append(labels(key, names=names))
    elif within_one_sd(lead, rivals[0][1]) is False:
        text.append(labels("sentences.apart"))
    if unjudged:
        names = labels.enumerate([labels.name("defenses", rival) for rival, _ in unjudged])
        text.append(labels("sentences.unjudged", names=names))
    return " ".join(text)


def _named(defense: str, one: Estimate, study: Study, labels: Labels) -> str:
    value = labels.estimate(one)
    seeds = len(study.axes.seeds)
    if one.seeds < seeds:
        value += labels("sentences.of_seeds", there=one.seeds, all=seeds)
    return labels("sentences.named", name=labels.name("defenses", defense), value=value)


def coverage(results: Results, labels: Labels) -> list[str]:
    """How many of the study's cells are evaluated and have a training history; which are not."""
    everything = len(results.expected)
    text = []
    for kind, missing in (
        ("cells", results.missing_cells),
        ("histories", results.missing_histories),
    ):
        if missing:
            text.append(labels(f"coverage.{kind}", there=everything - len(missing),
                               all=everything, missing=_keys(missing)))  # fmt: skip
    return text or [labels("coverage.complete", all=everything)]


def _keys(cells: list[Cell]) -> str:
    return ", ".join(cell.key for cell in cells)


def describe_tradeoff(study: Study, results: Results, labels: Labels) -> str:
    """The figure for those who do not see it: every mean."""
    parts = []
    for architecture in study.axes.architectures:
        values = []
        for defense in study.axes.defenses:
            rows = results.group(defense, architecture)
            natural, robust = estimate(rows["NA"]), estimate(rows["RA"])
            if natural and robust:
                values.append(labels("figures.tradeoff.alt_value",
                                     defense=labels.name("defenses", defense),
                                     na=labels.percent(natural.mean),
                                     ra=labels.percent(robust.mean)))  # fmt: skip
        parts.append(labels("figures.tradeoff.alt_part",
                            architecture=labels.name("architectures", architecture),
                            values="; ".join(values) or labels("words.nothing")))  # fmt: skip
    return " ".join([labels("figures.tradeoff.alt"), *parts])


def describe_training(architecture: str, study: Study, results: Results, labels: Labels) -> str:
    """For each defense the selected epochs of its seeds."""
    parts = []
    for defense in study.axes.defenses:
        chosen = [str(epoch) for cell in _of(results, defense, architecture)
                  for epoch in selected_epochs(results, cell)]  # fmt: skip
        parts.append(f"{labels.name('defenses', defense)}: "
                     + (labels.enumerate(chosen) or labels("words.nothing")))  # fmt: skip
    alt = labels("figures.training.alt", architecture=labels.name("architectures", architecture))
    return f"{alt} {'; '.join(parts)}."


def describe_classes(study: Study, results: Results, labels: Labels) -> str:
    """For each defense and architecture the worst class and its RA."""
    parts = []
    for architecture in study.axes.architectures:
        values = []
        for defense in study.axes.defenses:
            accuracies = results.class_accuracies(defense, architecture)
            if len(accuracies):
                values.append(labels("figures.classes.alt_value",
                                     defense=labels.name("defenses", defense),
                                     worst=accuracies.index[int(accuracies.argmin())],
                                     ra=labels.percent(float(accuracies.min()))))  # fmt: skip
        parts.append(labels("figures.classes.alt_part",
                            architecture=labels.name("architectures", architecture),
                            values="; ".join(values) or labels("words.nothing")))  # fmt: skip
    return " ".join([labels("figures.classes.alt"), *parts])


def describe_lambda(defense: str, study: Study, results: Results, labels: Labels) -> str:
    """lambda's mean in the first and in the last epoch, by architecture."""
    parts = []
    for architecture in study.axes.architectures:
        curves = [history["lambda_mean"].dropna() for cell in _of(results, defense, architecture)
                  if (history := results.histories.get(cell.key)) is not None
                  and "lambda_mean" in history]  # fmt: skip
        first = estimate(float(curve.iloc[0]) for curve in curves if len(curve))
        last = estimate(float(curve.iloc[-1]) for curve in curves if len(curve))
        name = labels.name("architectures", architecture)
        if first and last:
            parts.append(labels("figures.lambda.alt_part", architecture=name,
                                first=labels.number(first.mean),
                                last=labels.number(last.mean)))  # fmt: skip
        else:
            parts.append(f"{name}: {labels('words.nothing')}.")
    alt = labels("figures.lambda.alt", defense=labels.name("defenses", defense))
    return " ".join([alt, *parts])


def selected_epochs(results: Results, cell: Cell) -> list[int]:
    """The selected epoch of a cell, counted as its CSV counts; empty without a history."""
    history = results.histories.get(cell.key)
    if history is None:
        return []
    return [int(epoch) for epoch in history.loc[history["selected"] == 1, "epoch"]]


def _of(results: Results, defense: str, architecture: str) -> list[Cell]:
    return [cell for cell in results.expected
            if cell.defense == defense and cell.architecture == architecture]  # fmt: skip
