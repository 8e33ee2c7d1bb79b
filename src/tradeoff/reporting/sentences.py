"""What the report says in words about its numbers, by rules; it judges nothing beyond them."""

from tradeoff.core.study import Cell, Study
from tradeoff.core.tables import HEADLINE, PROPOSAL
from tradeoff.reporting.estimates import Estimate, estimate
from tradeoff.reporting.evidence import flag_name
from tradeoff.reporting.labels import Labels
from tradeoff.reporting.missing import of_seeds, valued
from tradeoff.reporting.results import Results


def leaders(study: Study, results: Results, labels: Labels) -> list[str]:
    """For each architecture, who leads in NA and in RA, and whether that is resolved."""
    return [
        _leader(architecture, metric, study, results, labels)
        for architecture in study.axes.architectures
        for metric in HEADLINE
    ]


def rule(study: Study, labels: Labels) -> str:
    """When a difference counts as resolved."""
    return labels("sentences.rule", alpha=labels.number(100 * study.statistics.alpha),
                  proposal=labels.name("defenses", PROPOSAL))  # fmt: skip


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

    text = [labels("sentences.leads", **where, second=_named(*rivals[0], study, labels))]
    sides: dict[str, list[str]] = {"resolved": [], "open": [], "untested": []}
    for rival, _ in rivals:
        resolved = results.resolved(architecture, metric, defense, rival)
        side = "untested" if resolved is None else "resolved" if resolved else "open"
        sides[side].append(labels.name("defenses", rival))
    for side, names in sides.items():
        if names:
            key = f"sentences.{side}" + ("_many" if len(names) > 1 else "")
            text.append(labels(key, names=labels.enumerate(names)))
    return " ".join(text)


def _named(defense: str, one: Estimate, study: Study, labels: Labels) -> str:
    value = valued(one, len(study.axes.seeds), labels)
    return labels("sentences.named", name=labels.name("defenses", defense), value=value)


def coverage(results: Results, labels: Labels) -> list[str]:
    """How many of the data set's cells are evaluated and have a training history; which are not."""
    everything = len(results.expected)
    dataset = labels.name("datasets", results.dataset.name)
    text = []
    for kind, missing in (
        ("cells", results.missing_cells),
        ("histories", results.missing_histories),
    ):
        if missing:
            text.append(labels(f"coverage.{kind}", there=everything - len(missing),
                               dataset=dataset, all=everything,
                               missing=_keys(missing)))  # fmt: skip
    return text or [labels("coverage.complete", all=everything, dataset=dataset)]


def _keys(cells: list[Cell]) -> str:
    return ", ".join(cell.key for cell in cells)


def differences(study: Study, results: Results, labels: Labels) -> list[str]:
    """For each architecture and metric, against whom the proposal's difference is resolved."""
    if PROPOSAL not in study.axes.defenses:
        return [labels("differences.no_proposal", proposal=labels.name("defenses", PROPOSAL))]
    return [
        _compared(architecture, metric, study, results, labels)
        for architecture in study.axes.architectures
        for metric in HEADLINE
    ]


def _compared(
    architecture: str, metric: str, study: Study, results: Results, labels: Labels
) -> str:
    sides: dict[str, list[str]] = {
        "higher": [], "lower": [], "open": [], "untested": [], "missing": [],
    }  # fmt: skip
    for other in study.axes.defenses:
        if other == PROPOSAL:
            continue
        one, name = results.difference(architecture, other, metric), labels.name("defenses", other)
        if one is None:
            sides["missing"].append(name)
            continue
        resolved = results.resolved(architecture, metric, PROPOSAL, other)
        side = "higher" if one.difference > 0 else "lower"
        side = side if resolved else "untested" if resolved is None else "open"
        points = labels.points(one.difference)
        points += of_seeds(one.seeds, len(study.axes.seeds), labels)
        sides[side].append(labels("sentences.named", name=name, value=points))
    text = [labels("differences.of", architecture=labels.name("architectures", architecture),
                   metric=labels(f"metric_names.{metric}"))]  # fmt: skip
    proposal = labels.name("defenses", PROPOSAL)
    for side, names in sides.items():
        if names:
            shared = side in ("open", "untested")
            key = f"sentences.{side}" if shared else f"differences.{side}"
            key += "_many" if len(names) > 1 else ""
            text.append(labels(key, proposal=proposal, names=labels.enumerate(names)))
    if not any(sides.values()):
        text.append(labels("differences.alone", proposal=proposal))
    return " ".join(text)


def gaps(results: Results, labels: Labels) -> dict[str, list[str]]:
    """By table: which evaluated cells it lacks, and of transfer also which models were no source;
    empty if none."""
    targets = {cell.key for cell in results.expected} - set(results.transfer["target"])
    lacking = {
        "norms": results.lacking(results.norms),
        "curve": results.lacking(results.curve),
        "masking": results.lacking(results.masking),
        "transfer": [cell for cell in results.expected
                     if cell.key in targets and cell not in results.missing_cells],
    }  # fmt: skip
    evaluated = len(results.expected) - len(results.missing_cells)
    found = {
        table: [labels(f"gaps.{table}", there=evaluated - len(cells), all=evaluated,
                       missing=_keys(cells))] if cells else []
        for table, cells in lacking.items()
    }  # fmt: skip
    sources = set(results.transfer["source"])
    idle = [cell for cell in results.expected if sources and cell.key not in sources]
    if idle:
        there, everything = len(results.expected) - len(idle), len(results.expected)
        found["transfer"].append(labels("gaps.sources", there=there, all=everything,
                                        missing=_keys(idle)))  # fmt: skip
    return found


def attack_images(results: Results, labels: Labels) -> str:
    """On how many images each attack's accuracy counts, where that differs between attacks."""
    table = results.attacks
    rows = table[(table["version"] == "best") & (table["class"] == "all")]
    names: dict[str, list[str]] = {}
    for attack, counts in rows.groupby("attack", sort=False)["images"]:
        images = labels.enumerate([str(count) for count in sorted({int(n) for n in counts})])
        names.setdefault(images, []).append(labels.name("attacks", str(attack)))
    if len(names) == 1:
        return labels("attack_images.same", images=next(iter(names)))
    parts = [
        labels("attack_images.part", images=images, attacks=labels.enumerate(attacks))
        for images, attacks in names.items()
    ]
    return labels("attack_images.differ", parts="; ".join(parts)) if parts else ""


def masking(study: Study, results: Results, labels: Labels) -> list[str]:
    """Which flags are raised by how many cells and what each suggests; or that none is."""
    table = results.masking
    judged = table[table["raised"].notna()]
    if judged.empty:
        return [labels("masking.unjudged")]
    text = []
    for flag, rows in judged[judged["raised"] == "True"].groupby("flag", sort=False):
        all_of = judged[judged["flag"] == flag]
        suggests = labels.texts.get(f"flags.{flag}.suggests", str(rows["suggests"].iloc[0]))
        text.append(labels("masking.raised", name=flag_name(str(flag), labels), count=len(rows),
                           all=len(all_of), suggests=suggests))  # fmt: skip
    cells = len(judged.drop_duplicates(["defense", "architecture", "seed"]))
    text = text or [labels("masking.none", cells=cells)]
    unknown = len(table) - len(judged)
    return [*text, labels("masking.unknown", count=unknown)] if unknown else text
