"""The commands of docs/operations.md on a remote: models pushed here are pulled elsewhere."""

import re
import subprocess
from pathlib import Path

from toys import ROOT, Toy


def commands(heading: str) -> list[list[str]]:
    """The shell blocks under a heading of docs/operations.md, each as its lines."""
    text = (ROOT / "docs" / "operations.md").read_text()
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return [[line.partition("#")[0].strip() for line in block.splitlines()] for block in blocks]


def test_what_is_pushed_here_is_pulled_elsewhere(finished: Toy, tmp_path: Path) -> None:
    """To a submodule of another repository, where `.git` is a file."""
    here = finished.copy(tmp_path / "here")
    there = Toy(tmp_path / "outer" / "there")
    pushing, pulling = commands("A remote for models")
    for study, lines in ((here, pushing), (there, pulling)):
        if study is there:
            subprocess.run(["git", "init", "-q", str(tmp_path / "outer")], check=True)
            command = ["-c", "protocol.file.allow=always", "submodule", "-q", "add"]
            place = [str(here.folder), there.folder.name]
            subprocess.run(["git", *command, *place], cwd=tmp_path / "outer", check=True)
            assert (there.folder / ".git").is_file()
        for line in lines:
            said = study.run(*line.replace("/mnt/disk", str(tmp_path)).split())
    assert "up to date" in said
    model = Path("models", "digits", "trades-resnet18-digits-0", "best")
    assert (there.folder / model).read_bytes() == (here.folder / model).read_bytes()
