"""The figures for those who do not see them: what each shows, in words and numbers."""

from tradeoff.core.study import Cell, Study
from tradeoff.core.tables import ENSEMBLE, PROPOSAL
from tradeoff.reporting.cost import DRAWN, SCALES, cost
from tradeoff.reporting.estimates import WEIGHT, estimate
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.results import Results, worst


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
        front = [labels.name("defenses", one[0])
                 for one in pareto_front(study.axes.defenses, architecture, results)]  # fmt: skip
        if front:
            parts.append(
                labels(
                    "figures.tradeoff.alt_front",
                    names=labels.enumerate(front),
                    architecture=labels.name("architectures", architecture),
                )
            )
    return " ".join([labels("figures.tradeoff.alt"), *parts])


def training(architecture: str, study: Study, results: Results, labels: Labels) -> str:
    """For each defense the selected epochs of its seeds."""
    parts = []
    for defense in study.axes.defenses:
        chosen = [str(epoch) for cell in results.cells_of(defense, architecture)
                  for epoch in selected_epochs(results, cell)]  # fmt: skip
        parts.append(f"{labels.name('defenses', defense)}: "
                     + (labels.enumerate(chosen) or labels("words.nothing")))  # fmt: skip
    alt = labels("figures.training.alt", architecture=labels.name("architectures", architecture))
    return f"{alt} {'; '.join(parts)}."


def classes(study: Study, results: Results, labels: Labels) -> str:
    """For each defense and architecture the worst class, or classes, and its RA."""
    parts = []
    for architecture in study.axes.architectures:
        values = []
        for defense in study.axes.defenses:
            accuracies = results.class_accuracies(defense, architecture)
            if len(accuracies):
                least = accuracies[worst(accuracies)].index.map(str)
                values.append(labels("figures.classes.alt_value",
                                     defense=labels.name("defenses", defense),
                                     worst=labels.enumerate(list(least)),
                                     ra=labels.percent(float(accuracies.min()))))  # fmt: skip
        parts.append(labels("figures.classes.alt_part",
                            architecture=labels.name("architectures", architecture),
                            values="; ".join(values) or labels("words.nothing")))  # fmt: skip
    return " ".join([labels("figures.classes.alt"), *parts])


def weights(defense: str, study: Study, results: Results, labels: Labels) -> str:
    """lambda's mean in the first and in the last epoch, by architecture."""
    parts = []
    for architecture in study.axes.architectures:
        cells = results.cells_of(defense, architecture)
        curves = [history["lambda_mean"].dropna() for cell in cells
                  if (history := results.histories.get(cell.key)) is not None
                  and "lambda_mean" in history]  # fmt: skip
        first = estimate(float(curve.iloc[0]) for curve in curves if len(curve))
        last = estimate(float(curve.iloc[-1]) for curve in curves if len(curve))
        name = labels.name("architectures", architecture)
        if first and last:
            parts.append(labels("figures.lambda.alt_part", architecture=name,
                                first=labels.printed(first.mean, WEIGHT),
                                last=labels.printed(last.mean, WEIGHT)))  # fmt: skip
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


def examples(architecture: str, study: Study, results: Results, labels: Labels) -> str:
    """How many of the images PGD makes each defense's model misclassify."""
    table = results.examples[results.examples["architecture"] == architecture]
    values = []
    for defense in study.axes.defenses:
        rows = table[table["defense"] == defense]
        if len(rows):
            fooled = int((rows["prediction"] != rows["label"]).sum())
            values.append(labels("figure_alt.examples_value", fooled=fooled,
                                 defense=labels.name("defenses", defense)))  # fmt: skip
    return labels("figure_alt.examples", architecture=labels.name("architectures", architecture),
                  images=table["image"].nunique(),
                  values="; ".join(values) or labels("words.nothing"))  # fmt: skip


def costs(study: Study, results: Results, labels: Labels) -> str:
    """Every mean of passes and seconds per epoch."""
    parts = []
    for kind in DRAWN:
        values = []
        for architecture in study.axes.architectures:
            for defense in study.axes.defenses:
                one = estimate(cost(kind, defense, architecture, results))
                if one:
                    values.append(labels("figure_alt.cost_value",
                                         architecture=labels.name("architectures", architecture),
                                         defense=labels.name("defenses", defense),
                                         cost=labels.printed(one.mean, SCALES[kind])))  # fmt: skip
        if values:
            parts.append(labels("figure_alt.cost_part", axis=labels(f"cost.axes.{kind}"),
                                values="; ".join(values)))  # fmt: skip
    return " ".join([labels("figure_alt.cost"), *parts])


def sweep(labels: Labels) -> str:
    """What the figure shows; its numbers are in a table."""
    return labels("figure_alt.sweep", proposal=labels.name("defenses", PROPOSAL))


def source_name(source: str, labels: Labels) -> str:
    """A defense's name, or that for an ensemble of surrogates."""
    return labels("roles.ensemble") if source == ENSEMBLE else labels.name("defenses", source)


def pareto_front(
    defenses: list[str], architecture: str, results: Results
) -> list[tuple[str, float, float]]:
    """The defenses than which no other is at least as good in both mean NA and mean RA and better
    in one, with these means, by rising RA."""
    means = []
    for defense in defenses:
        rows = results.group(defense, architecture)
        natural, robust = estimate(rows["NA"]), estimate(rows["RA"])
        if natural and robust:
            means.append((defense, natural.mean, robust.mean))
    front = [
        one for one in means
        if not any(
            other[1] >= one[1] and other[2] >= one[2] and other[1:] != one[1:] for other in means
        )
    ]  # fmt: skip
    return sorted(front, key=lambda one: (one[2], one[1]))


def selected_epochs(results: Results, cell: Cell) -> list[int]:
    """The selected epoch of a cell, counted as its CSV counts; empty without a history."""
    history = results.histories.get(cell.key)
    if history is None:
        return []
    return [int(epoch) for epoch in history.loc[history["selected"] == 1, "epoch"]]
