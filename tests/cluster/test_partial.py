"""A report although a cell failed, and nothing left of that once it is mended.

Training and attacks write something made up; summary and report are the real ones.
"""

import csv
import shlex
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from toys import ROOT, Toy

FAILED = "at-resnet18-digits-0"
KEPT = "trades-resnet18-digits-0"
ERROR = "50 % of <disk> & more is gone"

SCRIPTS = {
    "train": f"""
        why = Path("checkpoints", "why")  # not in git, and no dependency: as causes are
        if cell == {FAILED!r} and why.exists():
            raise OSError(why.read_text())
        for version in ("best", "last"):
            write(f"models/digits/{{cell}}/{{version}}.safetensors", cell)
        columns = "epoch,validation_natural_accuracy,validation_robust_accuracy,selected"
        write(f"plots/training/digits/{{cell}}.csv", columns + "\\n0,0.5,0.25,1\\n")
    """,
    "attack": """
        from tests.evaluation.ledgers import write_ledger
        from tradeoff.core.study import Study
        write_ledger(Study.load().cell(cell), suite)
    """,
    "transfer": """
        write("ledgers/transfer/digits.npz", " ".join(sorted(os.listdir("models/digits"))))
        write("plots/transfer/digits.csv", "")
    """,
    "examples": """
        write("plots/examples/digits.png", "")
        write("plots/examples/digits.csv", "")
        write("plots/gradients/digits.png", "")
        write("plots/gradients/digits.csv", "")
        write("plots/sizes/digits.csv", "")
    """,
}
ARGUMENTS = {"train": ["cell"], "attack": ["cell", "suite"]}
SCRIPT = """
import os, sys
from pathlib import Path
import _environment
sys.path.append({root!r})
def write(name, text):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)
def main({arguments}):
    if True:{work}
_environment.run(main, "toy", **dict.fromkeys({arguments!r}.split(", "), "name"))
"""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """Two cells, nothing run."""
    folder = tmp_path_factory.mktemp("fresh")
    study = Toy(folder).build({}, defenses=["at", "trades"], seeds=[0])
    for name in ("summarize", "report"):
        shutil.copy(ROOT / "stages" / f"{name}.py", folder / "stages")
    for name, work in SCRIPTS.items():
        arguments = ", ".join(ARGUMENTS.get(name, ["dataset"]))
        script = SCRIPT.format(root=str(ROOT), arguments=arguments, work=work)
        (folder / "stages" / f"{name}.py").write_text(script)
    yaml = YAML()
    params = yaml.load((folder / "params.yaml").read_text())
    params["report"]["languages"] = ["en"]
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(params, file)
    study.commit()
    return study


@pytest.fixture(scope="module")
def undisturbed(fresh: Toy, tmp_path_factory: pytest.TempPathFactory) -> Toy:
    study = fresh.copy(tmp_path_factory.mktemp("undisturbed") / "toy")
    study.run("dvc", "repro")
    return study


def spoil(study: Toy, error: str = ERROR) -> None:
    """From now on the cell fails."""
    why = study.folder / "checkpoints" / "why"
    why.parent.mkdir(exist_ok=True)
    why.write_text(error)


def mend(study: Toy) -> None:
    (study.folder / "checkpoints" / "why").unlink()


def documented() -> list[list[str]]:
    """The commands of the section of the docs."""
    section = (ROOT / "docs" / "operations.md").read_text().partition("## A cell failed\n")[2]
    block = section.partition("```sh\n")[2].partition("```")[0]
    return [shlex.split(line, comments=True) for line in block.splitlines()]


def missing(study: Toy) -> list[dict[str, str]]:
    with (study.folder / "plots" / "summary" / "digits" / "missing.csv").open() as file:
        return list(csv.DictReader(file))


def cells(study: Toy) -> list[str]:
    with (study.folder / "plots" / "summary" / "digits" / "cells.csv").open() as file:
        return [row["defense"] for row in csv.DictReader(file)]


def assert_partly_reported(study: Toy) -> None:
    error = f"OSError: {ERROR}"
    assert missing(study) == [{"cell": FAILED, "stage": f"train@{FAILED}", "error": error}]
    assert cells(study) == ["trades"]
    assert (study.folder / "ledgers" / "transfer" / "digits.npz").read_text() == KEPT
    page = (study.folder / "reports" / "digits" / "report.en.html").read_text()
    top = page[: page.index("<main>")]
    assert f"train@{FAILED}: OSError: 50 % of &lt;disk&gt; &amp; more is gone" in top


def test_the_documented_commands_report_what_is_there(
    fresh: Toy, undisturbed: Toy, tmp_path: Path
) -> None:
    study = fresh.copy(tmp_path / "toy")
    spoil(study)
    first, *others = documented()
    assert "--keep-going" in first and len(others) == 2
    assert "will be skipped due to this failure" in study.run(*first, ok=False)
    assert not (study.folder / "reports").exists()
    for command in others:
        study.run(*command)
    assert_partly_reported(study)
    assert (study.folder / "reports" / "index.html").exists()
    assert "1 done, 1 failed" in study.tradeoff("status", ok=False)

    spoil(study, "another one")
    study.run(*first, ok=False)
    study.run(*others[0])
    assert [row["error"] for row in missing(study)] == ["OSError: another one"]

    mend(study)
    study.run("dvc", "repro")
    assert missing(study) == []
    assert study.results() == undisturbed.results()


def test_status_tells_a_failure_where_dvc_lock_has_the_result(
    undisturbed: Toy, tmp_path: Path
) -> None:
    """As in a clone without cache: the entry in git is right, and what it names is not there."""
    study = undisturbed.copy(tmp_path / "toy")
    shutil.rmtree(study.folder / ".dvc" / "cache")
    shutil.rmtree(study.folder / "models" / "digits" / FAILED)
    assert "2 cells, 2 done" in study.tradeoff("status")
    spoil(study)
    study.run("dvc", "repro", f"train@{FAILED}", ok=False)
    shown = study.tradeoff("status", ok=False)
    assert "1 done, 1 failed" in shown
    assert f"failed: train@{FAILED}: OSError: {ERROR}" in shown


def test_reproduce_reports_what_is_there_and_nothing_that_is_out_of_date(
    undisturbed: Toy, tmp_path: Path
) -> None:
    """The cells were there; then their code changes, and one of them fails."""
    study = undisturbed.copy(tmp_path / "toy")
    spoil(study)
    with (study.folder / "stages" / "train.py").open("a") as file:
        file.write("CHANGED = True\n")
    said = study.tradeoff("reproduce", "digits", ok=False)
    assert f"{FAILED}: OSError: {ERROR}" in said
    assert "transfer@digits: done" in said  # by a worker, as always
    assert "the report is of the cells that are there" in said
    assert "reports/digits/report.en.html" in said
    assert_partly_reported(study)
    assert not (study.folder / "ledgers" / "digits" / f"{FAILED}-bounded.npz").exists()

    mend(study)
    study.tradeoff("reproduce", "digits")
    results, expected = study.results(), undisturbed.results()
    del results["dvc.lock"], expected["dvc.lock"]  # the changed code is in it
    assert results == expected
    assert study.up_to_date("report@digits")


def test_reproduce_leaves_everything_if_there_is_nothing_to_report(
    undisturbed: Toy, tmp_path: Path
) -> None:
    study = undisturbed.copy(tmp_path / "toy")
    train = study.folder / "stages" / "train.py"
    train.write_text(train.read_text().replace("main(cell):", "main(cell):\n    raise OSError"))
    said = study.tradeoff("reproduce", "digits", ok=False)
    assert "digits: there is no new report: all cells of digits failed; its results stay" in said
    results, expected = study.results(), undisturbed.results()
    del results["dvc.lock"], expected["dvc.lock"]  # the changed code is in it
    assert results == expected
