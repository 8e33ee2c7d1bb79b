"""The outcome of a sweep, from folders and from DVC's commits, and what is said of it."""

# Greek letters are what the tables show.
# ruff: noqa: RUF001

import subprocess

import pandas as pd
import pytest
from made_up import made_up_study, write_made_up

from tradeoff.reporting import ablation, sweep
from tradeoff.reporting.labels import load_labels
from tradeoff.reporting.results import read_results

pytestmark = pytest.mark.xdist_group("reporting")


def cells(na, ra):
    rows = [
        {
            "defense": defense,
            "architecture": "vgg16",
            "seed": seed,
            "NA": na,
            "RA": ra + 0.02 * seed,
        }
        for defense in ("at", "dtrades")
        for seed in (0, 1)
    ]
    return pd.DataFrame(rows).round(2).to_csv(index=False)


def params(alpha, beta):
    return f"dtrades: {{alpha: {alpha}, beta: {beta}}}\n"


def write_folder(root):
    for name, alpha, beta, ra in (("a", 0.5, 1.0, 0.5), ("b", 2.5, 1.25, 0.6), ("c", 2.5, 0, 0.4)):
        table = root / name / "plots" / "cells" / "digits.csv"
        table.parent.mkdir(parents=True)
        table.write_text(cells(0.9, ra))
        (root / name / "params.yaml").write_text(params(alpha, beta))
    (root / "without").mkdir()
    (root / "without" / "params.yaml").write_text(params(1, 1))
    # The working tree's: study and report do not count.
    (root.parent / "params.yaml").write_text("report: {languages: [es]}\n" + params(2.5, 1.25))


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ("train: {epochs: 3}", "train.epochs"),
        ("suites: {bounded: {}}", "suites.bounded"),
        ("study: {seeds: [0, 1]}", None),
    ],
)
def test_an_experiment_of_something_else_is_named_and_left_out(
    tmp_path, monkeypatch, capsys, more, named
):
    write_folder(tmp_path / "runs")
    (tmp_path / "runs" / "b" / "params.yaml").write_text(params(2.5, 1.25) + more)
    monkeypatch.chdir(tmp_path)
    table = sweep.collect("digits", tmp_path / "runs")
    said = capsys.readouterr().out
    assert (1.25 in set(table["beta"])) is (named is None)
    assert (f"left out: b: also differs in {named}\n" in said) is (named is not None)


def test_experiments_cannot_be_compared_without_params(tmp_path, monkeypatch):
    write_folder(tmp_path / "runs")
    (tmp_path / "params.yaml").unlink()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(sweep.BadSweep, match=r"params\.yaml: not found"):
        sweep.collect("digits", tmp_path / "runs")


def test_a_folder_of_experiments_becomes_a_table(tmp_path, monkeypatch, capsys):
    write_folder(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    table = sweep.collect("digits", tmp_path / "runs")
    assert "without plots/summary/digits/cells.csv: without" in capsys.readouterr().out
    written = pd.read_csv(tmp_path / "plots" / "sweep" / "digits.csv")
    expected = [
        (0.5, 1.0, 0, 0.5), (0.5, 1.0, 1, 0.52), (2.5, 0.0, 0, 0.4), (2.5, 0.0, 1, 0.42),
        (2.5, 1.25, 0, 0.6), (2.5, 1.25, 1, 0.62),
    ]  # fmt: skip
    for found in (table, written):
        columns = (found[name] for name in ("alpha", "beta", "seed", "RA"))
        assert list(zip(*columns, strict=True)) == expected


def test_experiments_are_found_among_the_commits(tmp_path, monkeypatch):
    def git(*arguments):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.example", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "base")
    base, branch = git("rev-parse", "HEAD"), git("branch", "--show-current")
    git("checkout", "-q", "-b", "work")
    (tmp_path / "plots" / "cells").mkdir(parents=True)
    (tmp_path / "plots" / "cells" / "digits.csv").write_text(cells(0.9, 0.5))
    (tmp_path / "params.yaml").write_text(params(0.5, 2))
    git("add", "-A")
    git("commit", "-q", "-m", "experiment")
    git("update-ref", f"refs/exps/{base[:2]}/{base[2:]}/some-name", "HEAD")
    git("checkout", "-q", branch)
    monkeypatch.chdir(tmp_path)
    (one,) = sweep.of_commit("digits")
    assert one.name == "some-name"
    assert set(sweep.sweep_table([one])["alpha"]) == {0.5}


@pytest.mark.parametrize(
    ("content", "said"), [("dtrades: {alpha: 1}", "beta"), ("a: [", "params.yaml")]
)
def test_a_broken_experiment_is_named(content, said):
    with pytest.raises(sweep.BadSweep, match=f"(?s)experiment x: .*{said}"):
        sweep.sweep_table([sweep.Experiment("x", content, cells(0.9, 0.5))])


def test_nothing_to_collect_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(params(1, 1))
    with pytest.raises(sweep.BadSweep, match=r"no experiment in .* has results"):
        sweep.collect("digits", tmp_path)


def test_the_sweep_is_an_ablation_of_the_report(tmp_path, monkeypatch, templates):
    write_folder(tmp_path / "runs")
    study = made_up_study(["at", "dtrades"], ["vgg16"])  # alpha 2.5, beta 1.25
    write_made_up(study, tmp_path)
    monkeypatch.chdir(tmp_path)
    sweep.collect("digits", tmp_path / "runs")
    results, english = read_results(study, "digits", tmp_path), load_labels("en", templates)
    table = ablation.sweep_table(study, results, english)
    (block,) = table.blocks
    assert [row.header for row in block.rows] == [
        "α = 0.5, β = 1", "α = 2.5, β = 0", "α = 2.5, β = 1.25 *"
    ]  # fmt: skip
    assert block.header == "D-TRADES"
    assert [row.numbers[1].mean for row in block.rows] == ["51.0", "41.0", "61.0"]
    # Nothing is tested, and nothing stands out.
    assert not any(number.best for row in block.rows for number in row.numbers)
    (text,) = ablation.sweep_sentences(study, results, english)
    assert "with α = 2.5 and β = 1.25" in text and "points above" not in text
    results.sweep.loc[results.sweep["alpha"] == 0.5, "RA"] += 0.2
    (text,) = ablation.sweep_sentences(study, results, english)
    assert "with α = 0.5 and β = 1" in text
    assert "That is 10.0 points above the RA of the study's own values" in text


def test_a_fixed_weight_and_a_gradient_through_lambda_are_swept_too(
    tmp_path, monkeypatch, templates
):
    """TRADES with the mean of lambda is the control of what adapting the weight is worth."""
    fixed = "trades: {beta: %s}\n"
    runs = (
        ("a", params(2.5, 1.25) + fixed % 3.7, 0.5),
        ("b", "dtrades: {alpha: 2.5, beta: 1.25, differentiable: true}\n" + fixed % 6, 0.6),
    )
    for name, settings, robust in runs:
        table = tmp_path / "runs" / name / "plots" / "cells" / "digits.csv"
        table.parent.mkdir(parents=True)
        table.write_text(cells(0.9, robust).replace("\nat,", "\ntrades,"))
        (tmp_path / "runs" / name / "params.yaml").write_text(settings)
    study = made_up_study(["trades", "dtrades"], ["vgg16"])  # alpha 2.5, beta 1.25; beta 6
    (tmp_path / "params.yaml").write_text(params(2.5, 1.25) + fixed % 6)
    write_made_up(study, tmp_path)
    monkeypatch.chdir(tmp_path)
    sweep.collect("digits", tmp_path / "runs")
    results, english = read_results(study, "digits", tmp_path), load_labels("en", templates)
    table = ablation.sweep_table(study, results, english)
    found = {
        (block.header, row.header): row.numbers[1].mean
        for block in table.blocks
        for row in block.rows
    }
    assert found == {
        ("D-TRADES", "α = 2.5, β = 1.25 *"): "51.0",
        ("D-TRADES", "α = 2.5, β = 1.25, gradient through λ"): "61.0",
        ("TRADES", "β = 3.7"): "51.0",
        ("TRADES", "β = 6 *"): "61.0",
    }
    # What is said and drawn of alpha and beta is of the proposal as it is.
    (text,) = ablation.sweep_sentences(study, results, english)
    assert "51.0" in text and "with α = 2.5 and β = 1.25" in text
    assert len(results.swept_proposal()) == 2
