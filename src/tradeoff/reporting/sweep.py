"""Put the outcome of a sweep into the reports: plots/sweep/DATASET.csv.

    python -m tradeoff.reporting.sweep digits                  all experiments of this commit
    python -m tradeoff.reporting.sweep digits results/sweep    a folder with one folder for each

An experiment is a params.yaml with the plots/summary/DATASET/cells.csv that belongs to it: a
commit that `dvc exp run` made, or a folder. Those without a table are named and left out, and so
are those of which params.yaml differs from the present one in more than what is swept: the knobs of
the proposal, and the weight of TRADES. TRADES with the mean of lambda as its weight is the control
that tells whether adapting the weight matters or only its size.
"""

import argparse
import math
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tradeoff.core.files import atomic_write
from tradeoff.core.schema import dotted
from tradeoff.core.tables import FIXED, PROPOSAL
from tradeoff.reporting.results import SWEEP_COLUMNS

PARAMS = "params.yaml"
SWEPT = {PROPOSAL: ("alpha", "beta", "differentiable"), FIXED: ("beta",)}
# They say what is computed and in which language it is told, not how it comes out.
WITHOUT_EFFECT = ("study", "report")


class BadSweep(Exception):
    """There is nothing to collect, or an experiment is not readable; the message says which."""


class Experiment(NamedTuple):
    """The two files of an experiment; `cells` is None if it has no such table."""

    name: str
    params: str
    cells: str | None


def table_of(dataset: str) -> str:
    """Where an experiment has the results of its cells."""
    return f"plots/summary/{dataset}/cells.csv"


def in_folder(folder: Path, dataset: str) -> Iterator[Experiment]:
    """The experiments in the folders of a folder."""
    for params in sorted(folder.glob(f"*/{PARAMS}")):
        table = params.parent / table_of(dataset)
        cells = table.read_text("utf-8") if table.exists() else None
        yield Experiment(params.parent.name, params.read_text("utf-8"), cells)


def of_commit(dataset: str) -> Iterator[Experiment]:
    """DVC's experiments that start from the present commit, which are git references."""
    base = _git("rev-parse", "HEAD")
    pattern = f"refs/exps/{base[:2]}/{base[2:]}/"
    for reference in _git("for-each-ref", "--format=%(refname)", pattern).split():
        try:
            cells: str | None = _git("show", f"{reference}:{table_of(dataset)}")
        except BadSweep:
            cells = None
        name = reference.rpartition("/")[2]
        yield Experiment(name, _git("show", f"{reference}:{PARAMS}"), cells)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BadSweep(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def sweep_table(experiments: list[Experiment]) -> pd.DataFrame:
    """SWEEP_COLUMNS: a row for each cell of the swept defenses, by knobs, architecture and seed.

    Of two experiments with the same knobs the one that comes last counts.

    Raises:
        BadSweep: an experiment is not readable or lacks the knobs of a defense that it has.
    """
    parts = [pd.DataFrame(columns=SWEEP_COLUMNS)]
    for experiment in experiments:
        if experiment.cells is None:
            continue
        try:
            cells = pd.read_csv(StringIO(experiment.cells))
            for defense in SWEPT:
                rows = cells[cells["defense"] == defense]
                if len(rows):
                    parts.append(rows.assign(**_knobs(experiment, defense))[SWEEP_COLUMNS])
        except (ValueError, KeyError) as error:
            raise BadSweep(f"experiment {experiment.name}: its table of cells: {error}") from None
    table = pd.concat([part for part in parts if len(part)] or parts)
    keys = SWEEP_COLUMNS[:-2]
    return table.drop_duplicates(keys, keep="last").sort_values(keys, ignore_index=True)


def _knobs(experiment: Experiment, defense: str) -> dict[str, float | bool]:
    """The columns of SWEEP_COLUMNS that tell how a defense was trained."""
    try:
        section = _params(experiment)[defense]
        return {
            "alpha": float(section["alpha"]) if "alpha" in SWEPT[defense] else math.nan,
            "beta": float(section["beta"]),
            "differentiable": bool(section.get("differentiable", False)),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise BadSweep(f"experiment {experiment.name}: {PARAMS}: {error!r}") from None


def _params(experiment: Experiment) -> Any:
    try:
        return YAML(typ="safe").load(experiment.params)
    except YAMLError as error:
        raise BadSweep(f"experiment {experiment.name}: {PARAMS}: {error!r}") from None


def other_changes(experiment: Experiment, own: Experiment) -> list[str]:
    """The settings that are not swept, such as train.epochs, in which an experiment differs.

    Raises:
        BadSweep: the params.yaml of one of them is not readable.
    """
    mine, theirs = (dotted(_params(one) or {}) for one in (own, experiment))
    swept = [f"{defense}.{knob}" for defense, knobs in SWEPT.items() for knob in knobs]
    return [
        name for name in dict.fromkeys([*mine, *theirs])
        if name.split(".")[0] not in WITHOUT_EFFECT
        and name not in swept
        and (name in mine, mine.get(name)) != (name in theirs, theirs.get(name))
    ]  # fmt: skip


def collect(dataset: str, folder: Path | None) -> pd.DataFrame:
    """Write plots/sweep/DATASET.csv from the experiments that change nothing but what is swept.

    Raises:
        BadSweep: as `sweep_table`; or there is no experiment with results, or no params.yaml to
            compare those of the experiments with.
    """
    found = list(of_commit(dataset) if folder is None else in_folder(folder, dataset))
    try:
        own = Experiment("(the present one)", Path(PARAMS).read_text("utf-8"), None)
    except FileNotFoundError:
        raise BadSweep(f"{PARAMS}: not found; run this in the repository's root") from None
    without = [experiment.name for experiment in found if experiment.cells is None]
    if without:
        print(f"[sweep] without {table_of(dataset)}: {', '.join(without)}", flush=True)
    swept = []
    for experiment in found:
        changes = other_changes(experiment, own)
        if changes:
            print(f"[sweep] left out: {experiment.name}: also differs in {', '.join(changes)}",
                  flush=True)  # fmt: skip
        else:
            swept.append(experiment)
    table = sweep_table(swept)
    if table.empty:
        where = "of this commit" if folder is None else f"in {folder}"
        raise BadSweep(f"no experiment {where} has results of {' or '.join(SWEPT)} on {dataset}")
    path = Path("plots", "sweep", f"{dataset}.csv")
    with atomic_write(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="a data set of params.yaml, such as digits")
    parser.add_argument("folder", nargs="?", type=Path, help="with a folder for each experiment")
    given = parser.parse_args()
    try:
        table = collect(given.dataset, given.folder)
    except BadSweep as error:
        sys.exit(str(error))
    groups = table.groupby(SWEEP_COLUMNS[:5], dropna=False)
    means = (100 * groups[["NA", "RA"]].mean()).round(1).assign(seeds=groups.size())
    print(means.reset_index().to_string(index=False))


if __name__ == "__main__":
    main()
