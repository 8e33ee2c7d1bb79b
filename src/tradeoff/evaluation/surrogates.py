"""Which models of a data set attack which: ensembles of surrogates, and the roles of pairs."""

from collections.abc import Mapping

import pandas as pd

from tradeoff.core.study import Cell
from tradeoff.core.tables import ENSEMBLE, EXTRACTION
from tradeoff.evaluation.extraction import Extracted
from tradeoff.evaluation.transfer import extraction_of, role


def sources(cells: Mapping[str, Cell]) -> list[str]:
    """The models on which examples are made: those of the first seed.

    Models of the other seeds are attacked only. As sources they would say much the same again, for
    as much work each: an attack on a source costs as much as trying it on dozens of targets.
    """
    first = min((cell.seed for cell in cells.values()), default=0)
    return [key for key, cell in cells.items() if cell.seed == first]


def ensembles(cells: Mapping[str, Cell]) -> dict[str, tuple[str, ...]]:
    """An ensemble for each architecture: its models among the sources, by the ensemble's name.

    Its targets are the models of the other architecture and of the other seeds.
    """
    groups: dict[str, list[str]] = {}
    for key in sources(cells):
        groups.setdefault(f"ensemble-{cells[key].architecture}", []).append(key)
    return {name: tuple(members) for name, members in groups.items() if len(members) > 1}


def labelled(
    table: pd.DataFrame,
    cells: Mapping[str, Cell],
    control: str | None,
    extracted: Mapping[str, Extracted],
) -> pd.DataFrame:
    """The transfer table with the role of each pair and what source and target are.

    Adds columns role, source_defense (ENSEMBLE or EXTRACTION for such), source_architecture,
    target_defense, target_architecture, and of a substitute queries and agreement (`Extracted`).

    Args:
        extracted: the substitutes, by the model that answered.
    """
    groups = {**{key: (key,) for key in cells}, **ensembles(cells)}
    substitutes = {extraction_of(victim): substitute for victim, substitute in extracted.items()}
    rows = []
    for row in table.to_dict("records"):
        source, target = str(row["source"]), cells[str(row["target"])]
        substitute = substitutes.get(source)
        if substitute:
            kind, defense, architecture = EXTRACTION, EXTRACTION, substitute.architecture
        else:
            members = [cells[key] for key in groups[source]]
            kind, architecture = role(members, target, control), members[0].architecture
            defense = members[0].defense if len(members) == 1 else ENSEMBLE
        rows.append(
            {
                "role": kind,
                "source_defense": defense,
                "source_architecture": architecture,
                "target_defense": target.defense,
                "target_architecture": target.architecture,
                **row,
                "queries": substitute.queries if substitute else None,
                "agreement": substitute.agreement if substitute else None,
            }
        )
    return pd.DataFrame(rows).astype({"queries": "Int64"} if rows else {})
