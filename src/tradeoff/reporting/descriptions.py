"""The figures for those who do not see them: what each shows, in words and numbers."""

from tradeoff.core.study import Cell, Study
from tradeoff.reporting.estimates import estimate
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.results import ENSEMBLE, Results


def tradeoff(study: Study, results: Results, labels: Labels) -> str:
    """Every mean."""
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


def training(architecture: str, study: Study, results: Results, labels: Labels) -> str:
    """For each defense the selected epochs of its seeds."""
    parts = []
    for defense in study.axes.defenses:
        chosen = [str(epoch) for cell in _of(results, defense, architecture)
                  for epoch in selected_epochs(results, cell)]  # fmt: skip
        parts.append(f"{labels.name('defenses', defense)}: "
                     + (labels.enumerate(chosen) or labels("words.nothing")))  # fmt: skip
    alt = labels("figures.training.alt", architecture=labels.name("architectures", architecture))
    return f"{alt} {'; '.join(parts)}."


def classes(study: Study, results: Results, labels: Labels) -> str:
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


def weights(defense: str, study: Study, results: Results, labels: Labels) -> str:
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


def curve(study: Study, results: Results, labels: Labels) -> str:
    """RA from minimum norms at the threat's epsilon, by architecture and defense."""
    parts = []
    for architecture in study.axes.architectures:
        values = []
        for defense in study.axes.defenses:
            line = results.robustness_curve(defense, architecture)
            if len(line):
                gaps = abs(line.index.to_numpy(dtype=float) - results.dataset.threat.epsilon)
                robust = float(line.iloc[int(gaps.argmin())])
                values.append(labels("figures.curve.alt_value",
                                     defense=labels.name("defenses", defense),
                                     ra=labels.percent(robust)))  # fmt: skip
        parts.append(labels("figures.curve.alt_part",
                            architecture=labels.name("architectures", architecture),
                            values="; ".join(values) or labels("words.nothing")))  # fmt: skip
    return " ".join([labels("figures.curve.alt"), *parts])


def transfer(results: Results, labels: Labels) -> str:
    """For each target defense the source that fools it most."""
    parts = []
    for target, column in results.transfer_matrix().items():
        known = column.dropna()
        if len(known):
            parts.append(labels("figures.transfer.alt_value",
                                target=labels.name("defenses", str(target)),
                                source=source_name(str(known.idxmax()), labels),
                                fooled=labels.percent(float(known.max()))))  # fmt: skip
    return f"{labels('figures.transfer.alt')} {'; '.join(parts) or labels('words.nothing')}."


def source_name(source: str, labels: Labels) -> str:
    """A defense's name, or that for an ensemble of surrogates."""
    return labels("roles.ensemble") if source == ENSEMBLE else labels.name("defenses", source)


def selected_epochs(results: Results, cell: Cell) -> list[int]:
    """The selected epoch of a cell, counted as its CSV counts; empty without a history."""
    history = results.histories.get(cell.key)
    if history is None:
        return []
    return [int(epoch) for epoch in history.loc[history["selected"] == 1, "epoch"]]


def _of(results: Results, defense: str, architecture: str) -> list[Cell]:
    return [cell for cell in results.expected
            if cell.defense == defense and cell.architecture == architecture]  # fmt: skip
