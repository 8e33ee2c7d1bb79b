"""Which models of a data set attack which: ensembles of surrogates, and the roles of pairs."""

from collections.abc import Mapping

import pandas as pd

from tradeoff.core.study import Cell
from tradeoff.core.tables import ENSEMBLE
from tradeoff.evaluation.transfer import role


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


def labelled(table: pd.DataFrame, cells: Mapping[str, Cell], control: str | None) -> pd.DataFrame:
    """The transfer table with the role of each pair and what source and target are.

    Adds columns role, source_defense (ENSEMBLE for one), source_architecture, target_defense,
    target_architecture.
    """
    groups = {**{key: (key,) for key in cells}, **ensembles(cells)}
    rows = []
    for row in table.to_dict("records"):
        members = [cells[key] for key in groups[str(row["source"])]]
        target = cells[str(row["target"])]
        single = members[0] if len(members) == 1 else None
        rows.append(
            {
                "role": role(members, target, control),
                "source_defense": single.defense if single else ENSEMBLE,
                "source_architecture": members[0].architecture,
                "target_defense": target.defense,
                "target_architecture": target.architecture,
                **row,
            }
        )
    return pd.DataFrame(rows)
