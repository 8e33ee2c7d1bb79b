"""Nothing that comes from outside is unpickled, and DVC reports nothing home."""

import ast
import configparser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "stages").glob("*.py")])
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_unpickled(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & PICKLES
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in PICKLES
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            settings = {each.arg: ast.unparse(each.value) for each in node.keywords}
            if called == "torch.load":
                assert settings.get("weights_only") == "True", f"line {node.lineno}"
            assert settings.get("allow_pickle", "False") == "False", f"line {node.lineno}"


def test_dvc_sends_no_statistics_and_looks_for_no_update() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / ".dvc" / "config")
    assert not config.getboolean("core", "analytics")
    assert not config.getboolean("core", "check_update")
