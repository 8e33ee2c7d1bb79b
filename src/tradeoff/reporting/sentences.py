"""What the report says in words about its numbers, by rules; it judges nothing beyond them."""

import pandas as pd

from tradeoff.core.tables import CELL, HEADLINE
from tradeoff.reporting.accuracy import passes
from tradeoff.reporting.coverage import seed_sentence
from tradeoff.reporting.estimates import Estimate, Scale
from tradeoff.reporting.evidence import flag_name
from tradeoff.reporting.view import View, means

MOST_NAMED = 12  # defenses in a sentence; tables tell of the others


def leaders(view: View) -> list[str]:
    """For each architecture, who leads in NA and in RA, and whether that is resolved."""
    return [_leader(view, architecture, metric)
            for architecture in view.architectures for metric in HEADLINE]  # fmt: skip


def rule(view: View) -> str:
    """When a difference counts as resolved."""
    levels = view.labels.levels(view.study.statistics)
    return view("sentences.rule", proposal=view.proposal_name, **levels)


def by_mean(view: View, architecture: str, metric: str) -> list[tuple[str, Estimate]]:
    """The defenses with their means, the highest first; of equal ones in the study's order."""
    estimates = view.means(metric)
    pairs = [(name, estimates[architecture, name]) for name in view.defenses
             if (architecture, name) in estimates]  # fmt: skip
    return sorted(pairs, key=lambda item: -item[1].mean)


def named(view: View, defense: str, estimate: Estimate) -> str:
    """ "AT (85.3 ± 0.4 %)"."""
    value = view.with_seed_count(estimate)
    return view("sentences.named", name=view.name(defense), value=value)


def _leader(view: View, architecture: str, metric: str) -> str:
    ranked = by_mean(view, architecture, metric)
    where = {"architecture": view.network(architecture), "metric": view(f"metric_names.{metric}")}
    if not ranked:
        return view("sentences.nobody", **where)
    (lead, _), rivals = ranked[0], ranked[1:]
    where["leader"] = named(view, *ranked[0])
    if not rivals:
        return view("sentences.alone", **where)
    text = [view("sentences.leads", **where, second=named(view, *rivals[0]))]
    sides: dict[str, list[str]] = {"resolved": [], "open": [], "untested": []}
    for rival, _ in rivals:
        status = view.results.status(architecture, metric, lead, rival)
        sides[status].append(view.name(rival))
    text += [_in_number(view, f"sentences.{side}", names) for side, names in sides.items() if names]
    return " ".join(text)


def _in_number(view: View, key: str, names: list[str], **values: str) -> str:
    """A text about one name, about several, or about how many there are if that is too many."""
    key += "_many" if len(names) > 1 else ""
    many = len(names) > MOST_NAMED
    listed = view("sentences.several", count=len(names)) if many else view.labels.enumerate(names)
    return view(key, names=listed, **values)


def differences(view: View) -> list[str]:
    """For each architecture and metric, against whom the proposal's difference is resolved."""
    if view.proposal is None:
        return [view("differences.no_proposal", proposal=view.proposal_name)]
    return [_compared(view, architecture, metric)
            for architecture in view.architectures for metric in HEADLINE]  # fmt: skip


def _compared(view: View, architecture: str, metric: str) -> str:
    sides: dict[str, list[str]] = {
        "higher": [], "lower": [], "open": [], "untested": [], "missing": [],
    }  # fmt: skip
    for other in view.defenses:
        if other == view.proposal:
            continue
        row, name = view.results.difference(architecture, other, metric), view.name(other)
        if row is None:
            sides["missing"].append(name)
            continue
        status = view.results.status(architecture, metric, str(view.proposal), other)
        sign = "higher" if row["difference"] > 0 else "lower"
        side = sign if status == "resolved" else status
        points = view.labels.points(row["difference"]) + view.seed_count(int(row["seeds"]))
        sides[side].append(view("sentences.named", name=name, value=points))
    text = [view("differences.of", architecture=view.network(architecture),
                 metric=view(f"metric_names.{metric}"))]  # fmt: skip
    for side, names in sides.items():
        shared = side in ("open", "untested")
        key = f"sentences.{side}" if shared else f"differences.{side}"
        if names:
            text.append(_in_number(view, key, names, proposal=view.proposal_name))
    if not any(sides.values()):
        text.append(view("differences.alone", proposal=view.proposal_name))
    return " ".join(text)


def attack_images(view: View) -> str:
    """On how many images each attack's accuracy counts, where that differs between attacks."""
    table = view.results.attacks
    rows = table[(table["version"] == "best") & (table["class"] == "all")]
    names: dict[str, list[str]] = {}
    for attack, counts in rows.groupby("attack", sort=False)["images"]:
        name = view.labels.name("attacks", str(attack))
        names.setdefault(view.labels.counts(counts), []).append(name)
    if len(names) == 1:
        return view("attack_images.same", images=next(iter(names)))
    parts = [view("attack_images.part", images=images, attacks=view.labels.enumerate(attacks))
             for images, attacks in names.items()]  # fmt: skip
    return view("attack_images.differ", parts="; ".join(parts)) if parts else ""


def masking(view: View) -> list[str]:
    """Which flags are raised by how many cells and what each suggests; or that none is."""
    judged = view.results.judged
    if judged.empty:
        return [view("masking.unjudged")]
    text = []
    for flag, rows in judged[judged["raised"]].groupby("flag", sort=False):
        suggests = view.labels.texts.get(f"flags.{flag}.suggests", str(rows["suggests"].iloc[0]))
        count = int((judged["flag"] == flag).sum())
        text.append(view("masking.raised", name=flag_name(view, str(flag)), count=len(rows),
                         all=count, suggests=suggests))  # fmt: skip
    cells = len(judged.drop_duplicates(list(CELL)))
    text = text or [view("masking.none", cells=cells)]
    unknown = len(view.results.masking) - len(judged)
    return [*text, view("masking.unknown", count=unknown)] if unknown else text


def collapses(view: View) -> list[str]:
    """Where training on one step collapsed, epoch by epoch and by how much; of each defense that
    is watched for it and never did, that."""
    text = []
    for architecture, defense in view.places():
        where = {"defense": view.name(defense), "architecture": view.network(architecture)}
        watched = {
            cell.seed: history for cell in view.cells((architecture, defense))
            if "collapse" in (history := view.results.histories.get(cell.key, pd.DataFrame()))
        }  # fmt: skip
        fallen = [_collapse(view, where | {"seed": seed}, history, int(place))
                  for seed, history in watched.items()
                  for place in history.index[history["collapse"] > 0]]  # fmt: skip
        if watched:
            count = view.labels.seeds(len(watched))
            text += fallen or [view("collapse.none", **where, seeds=count)]
    return text


def _collapse(view: View, where: dict[str, object], history: pd.DataFrame, place: int) -> str:
    """The accuracies before and after the epoch in which training collapsed, row `place`."""
    columns = {"robust": "validation_robust_accuracy", "one_step": "validation_one_step_accuracy"}
    values = {
        f"{name}_{when}": view.labels.percent(float(history[column].iloc[place - lag]))
        for name, column in columns.items() for when, lag in (("before", 1), ("after", 0))
    }  # fmt: skip
    return view("collapse.happened", **where, **values, epoch=int(history["epoch"].iloc[place]))


def cost(view: View) -> list[str]:
    """For each architecture how many times as many passes an epoch of the proposal takes as
    others' do."""
    counts = means(passes(view)) if view.proposal else {}
    text = []
    for architecture in view.architectures:
        proposed = counts.get((architecture, str(view.proposal)))
        others = [name for name in view.defenses if name != view.proposal]
        ratios = {
            other: proposed.mean / counts[architecture, other].mean for other in others
            if proposed and (architecture, other) in counts and counts[architecture, other].mean
        }  # fmt: skip
        times = {other: view.labels.formatted(ratio, Scale(1, 2))
                 for other, ratio in ratios.items()}  # fmt: skip
        if len(ratios) > MOST_NAMED:
            least, most = (extreme(ratios, key=lambda name: ratios[name]) for extreme in (min, max))
            listed = view("cost.range", low=times[least], high=times[most], count=len(ratios))
        else:
            listed = view.labels.enumerate([
                view("cost.ratio", other=view.name(other), ratio=ratio)
                for other, ratio in times.items()
            ])  # fmt: skip
        if ratios:
            text.append(view("cost.of", architecture=view.network(architecture),
                             proposal=view.proposal_name,
                             ratios=listed))  # fmt: skip
    fewer = seed_sentence(view, "histories")
    return [*text, fewer] if text and fewer else text
