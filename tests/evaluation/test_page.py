"""The page of one evaluation, and the command that writes it."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.attacks.trained import trained
from tests.evaluation.test_preflight import suite
from tradeoff.cli import main
from tradeoff.evaluation import evaluate
from tradeoff.networks.threat import Threat
from tradeoff.reporting.page import write_page

THREAT = Threat("linf", 0.1)


def test_the_page_says_what_the_numbers_say(tmp_path: Path) -> None:
    model, images, labels, _ = trained().first(30)
    result = evaluate(model, images, labels, THREAT, suite())
    write_page(result, images, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert f"<strong>{100 * result.metrics['RA']:.1f} %</strong> under every attack" in page
    assert "{{" not in page and 'src="http' not in page
    fooled = result.ledger["fooled"][0].any(0) & (
        result.ledger["clean_prediction"][0] == result.ledger["labels"]
    )
    assert page.count("data:image/png") == min(8, int(fooled.sum()))
    assert "<svg" not in page and "tell nothing of\nsmaller radii" in page
    assert "queries 20, restarts 1" in page
    wrong = result.ledger["clean_prediction"][0] != result.ledger["labels"]
    for number, share in enumerate(result.metrics["per_class"]):
        if share is None:  # no image
            assert f'<th scope="row">{number}</th>' not in page
            continue
        its = result.ledger["labels"] == number
        natural = 100 * (1 - wrong[its].mean())
        row = f">{number}</th><td>{its.sum()}</td><td>{natural:.1f} %</td>"
        assert f"{row}<td>{100 * share:.1f} %</td>" in page
    for name in result.metrics["flags"]:
        assert f">{name}<" in page


def test_a_curve_where_attacks_minimise_the_norm(tmp_path: Path) -> None:
    model, images, labels, _ = trained().first(10)
    fmn = {"norm": "linf", "steps": 20, "step_size": 1.0, "gamma": 0.3}
    result = evaluate(model, images, labels, THREAT, suite(fgsm={}, fmn=fmn))
    write_page(result, images, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count("<svg") == 1 and "smaller radii" not in page


def test_remarks_are_escaped_and_shown(tmp_path: Path) -> None:
    model, images, labels, _ = trained().first(10)
    result = evaluate(model, images, labels, THREAT, suite(fgsm={}))
    result.metrics["remarks"].append("odd <b>thing</b>")
    write_page(result, images, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert re.search(r'class="warning">Odd &lt;b&gt;thing', page)


def test_the_command_writes_page_ledger_and_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a folder without params.yaml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRADEOFF_DEVICE", "cpu")
    model, images, labels, _ = trained().first(12)
    np.savez("data.npz", images=images.numpy(), labels=labels.numpy())
    torch.jit.trace(model, images).save("model.ts")

    def call(*more: str) -> object:
        monkeypatch.setattr(sys, "argv", ["tradeoff", "evaluate", "model.ts", "data.npz", *more])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code

    for missing in ("nowhere/page.html", "."):
        assert "page.html" in str(call("--epsilon", "0.1", "--report", missing)) or missing == "."
    for over in (("--out", "data.npz"), ("--report", "model.ts"),
                 ("--out", "both", "--report", "./both")):  # fmt: skip
        assert "would be written over" in str(call("--epsilon", "0.1", *over))
    assert "cannot be written to" in str(call("--epsilon", "0.1", "--out", "/proc/ledger.npz"))
    assert "write 8/255" in str(call("--epsilon", "8"))
    wanted = ("--suite", "square", "--epsilon", "1/10", "--report", "page.html",
              "--out", "ledger.npz", "--json")  # fmt: skip
    assert call(*wanted) == 0
    shown = capsys.readouterr().out
    metrics = json.loads(shown[shown.index("{") :])
    with np.load("ledger.npz") as ledger:
        assert metrics["passes"]["forward"] == ledger["queries"].sum()
    assert Path("page.html").stat().st_size > 5000
    assert set(metrics["flags"]) == {"zero_gradients"}, "no attack with gradients: Square is alone"
    assert not Path("checkpoints").exists()
