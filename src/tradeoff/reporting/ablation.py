"""The proposal's knobs as an ablation: the outcome of a sweep of alpha and beta."""

from tradeoff.core.study import Study
from tradeoff.core.tables import HEADLINE, PROPOSAL
from tradeoff.reporting.estimates import Estimate, estimate
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.missing import valued
from tradeoff.reporting.results import Results
from tradeoff.reporting.tables import (
    Block,
    Column,
    Group,
    Note,
    Number,
    Row,
    Table,
    nth_letter,
)


def swept(results: Results, architecture: str, metric: str) -> dict[tuple[float, float], Estimate]:
    """The metric's means over the seeds by (alpha, beta), both rising."""
    rows = results.sweep[results.sweep["architecture"] == architecture]
    found = {}
    for alpha, beta in sorted(set(zip(rows["alpha"], rows["beta"], strict=True))):
        one = estimate(rows[(rows["alpha"] == alpha) & (rows["beta"] == beta)][metric])
        if one is not None:
            found[float(alpha), float(beta)] = one
    return found


def sweep_table(study: Study, results: Results, labels: Labels) -> Table | None:
    """Alpha and beta down, NA and RA of each architecture across; None without a sweep."""
    if results.sweep.empty:
        return None
    names = [name for name in study.axes.architectures
             if name in set(results.sweep["architecture"])]  # fmt: skip
    found = {(name, metric): swept(results, name, metric) for name in names for metric in HEADLINE}
    knobs = sorted({pair for values in found.values() for pair in values})
    columns = {}
    for place, values in found.items():
        columns[place] = {
            pair: Number(
                labels.percent(one.mean),
                "" if one.sd is None else labels.percent(one.sd),
            )
            for pair, one in values.items()
        }
    own = own_knobs(study)
    seeds = results.sweep["seed"].nunique()
    rows: list[Row] = []
    notes: list[Note] = []
    for pair in knobs:
        alpha, beta = (labels.number(value) for value in pair)
        mark = labels("ablation.own") if pair == own else ""
        header = labels("ablation.row", alpha=alpha, beta=beta) + mark
        there = min(values[pair].seeds for values in found.values() if pair in values)
        letter = ""
        if there < seeds:
            letter = nth_letter(len(notes))
            notes.append(Note(letter, labels("notes.sweep", there=there, all=seeds)))
        numbers = tuple(columns[place].get(pair, Number()) for place in found)
        rows.append(Row(header, numbers, letter))
    groups = tuple(
        Group(labels.name("architectures", name),
              tuple(Column(labels(f"metrics.{metric}"), spread=True) for metric in HEADLINE))
        for name in names
    )  # fmt: skip
    caption = labels("tables.sweep", proposal=labels.name("defenses", PROPOSAL), seeds=seeds)
    return Table("sweep", caption, labels("ablation.corner"), groups, (Block("", tuple(rows)),),
                 tuple(notes))  # fmt: skip


def own_knobs(study: Study) -> tuple[float, float] | None:
    """Alpha and beta of params.yaml."""
    if PROPOSAL not in study.knobs:
        return None
    values = study.knobs[PROPOSAL].model_dump()
    return (float(values["alpha"]), float(values["beta"])) if "alpha" in values else None


def sweep_sentences(study: Study, results: Results, labels: Labels) -> list[str]:
    """For each architecture where RA is highest, and what NA is there and with the study's own."""
    text = []
    seeds = results.sweep["seed"].nunique()
    for architecture in study.axes.architectures:
        robust, natural = (swept(results, architecture, metric) for metric in ("RA", "NA"))
        if not robust:
            continue
        top = max(robust, key=lambda pair: robust[pair].mean)
        values = {
            "architecture": labels.name("architectures", architecture),
            "alpha": labels.number(top[0]), "beta": labels.number(top[1]),
            "ra": valued(robust[top], seeds, labels), "na": valued(natural[top], seeds, labels),
        }  # fmt: skip
        said = labels("ablation.top", **values)
        own = own_knobs(study)
        if own in robust and own != top:
            gap = labels.percent(robust[top].mean - robust[own].mean)
            said += " " + labels("ablation.gap", gap=gap)
        text.append(said)
    return text
