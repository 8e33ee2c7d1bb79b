"""The short table of experiments, from what DVC prints."""

import subprocess
import sys

from tradeoff.cluster.experiments import table

AT = "metrics/means/digits/at-vgg16.json"
DTRADES = "metrics/means/digits/dtrades-vgg16.json"
PRINTED = [
    f"Experiment,rev,typ,{AT}:RA,{DTRADES}:NA,{DTRADES}:RA worst class,dtrades.alpha",
    ",workspace,baseline,63.0,97.7,16.7,2.6058",
    "kooky-hugs,d773942,branch_commit,,97.0,10.0,0.5",
]


def test_only_the_asked_means_are_shown_by_their_metric() -> None:
    head, workspace, experiment = table(PRINTED, "dtrades-vgg16").splitlines()
    assert head.split("  ")[0] == "experiment"
    assert head.split()[1:] == ["NA", "RA", "worst", "class", "dtrades.alpha"]
    assert workspace.split() == ["workspace", "97.7", "16.7", "2.6058"]
    assert experiment.split() == ["d773942", "kooky-hugs", "97.0", "10.0", "0.5"]
    assert head.index("NA") == workspace.index("97.7") == experiment.index("97.0")


def test_all_means_have_their_names_and_what_is_missing_a_dash() -> None:
    head, _, experiment = table(PRINTED).splitlines()
    place = head.index("at-vgg16 RA")
    assert experiment[place] == "-"
    assert "dtrades-vgg16 NA" in head


def test_of_several_data_sets_the_columns_are_told_apart() -> None:
    other = "metrics/means/mnist/dtrades-vgg16.json"
    printed = [f"{PRINTED[0]},{other}:NA", f"{PRINTED[1]},99.1", f"{PRINTED[2]},98.0"]
    head, workspace, _ = table(printed, "dtrades-vgg16").splitlines()
    assert workspace[head.index("digits NA") :].startswith("97.7")
    assert workspace[head.index("mnist NA") :].startswith("99.1")


def test_a_single_file_of_means_goes_without_its_path_in_dvc() -> None:
    printed = ["Experiment,rev,typ,NA", ",workspace,baseline,97.7"]
    assert table(printed, "dtrades-vgg16").splitlines()[1].split() == ["workspace", "97.7"]


def test_where_dvc_fails_nothing_is_added_to_what_it_says() -> None:
    command = [sys.executable, "-m", "tradeoff.cluster.experiments"]
    done = subprocess.run(command, input="", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
