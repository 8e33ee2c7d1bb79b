"""A misspelt `-S` key never becomes a parameter that nobody reads."""

from collections.abc import Callable

from toys import ROOT, Toy


def test_a_misspelt_key_stops_and_the_way_past_dvc_names_the_right_one(
    toy: Callable[..., Toy],
) -> None:
    study = toy(defenses=["dtrades"], seeds=[0])
    target = "prepare@digits"
    for key in ("dtrades.alfa", "dtraeds.alpha"):
        said = study.run("dvc", "exp", "run", "-S", f"{key}=0.5", target, ok=False)
        assert f"Could not override '{key}'" in said
        assert study.run("git", "status", "--porcelain") == ""
    assert "`Could not override '...'`" in (ROOT / "docs" / "operations.md").read_text()
    # As DVC proposes it: the key is added, and the first stage refuses it.
    said = study.run("dvc", "exp", "run", "-S", "+dtrades.alfa=0.5", target, ok=False)
    assert "params.yaml: dtrades: 'alfa' is not known" in said
    assert "did you mean alpha?" in said
