"""`tradeoff doctor`: what could go wrong here, each with a way out."""

import hashlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from tradeoff.cluster import lockfile, repair
from tradeoff.cluster.clone import CannotStart, git
from tradeoff.cluster.engines import gpus
from tradeoff.cluster.status import altered, digest
from tradeoff.core.schema import BadParams
from tradeoff.core.study import Study

CODE = ("src", "stages")
# GB: two models of a cell (about 50 MB each at full width), each a second time in DVC's cache.
ROOM_FOR_DIGITS, ROOM_FOR_ALL = 0.5, 15.0
# Estimated by counted operations (README.md) and 82 GFLOP/s a core, the most that was reached.
WITHOUT_GPU = "on two cores digits takes minutes, mnist_5k a night, mnist and cifar10 over a year"
ASK_TORCH = "import torch; print(torch.__version__, torch.cuda.is_available())"


@dataclass(frozen=True)
class Finding:
    """`good` None is worth knowing, and no fault; `way_out` says what to do."""

    about: str
    good: bool | None
    says: str
    way_out: str = ""


def examine(root: Path, fix: bool) -> int:
    """Print every finding; 1 if something is wrong, else 0. With `fix`, mend what DVC keeps."""
    if fix:
        print(repair.mend_in_use(root))
        print(repair.mend_lock(root))
    wrong = 0
    for check in CHECKS:
        for finding in check(root):
            mark = {True: "ok  ", False: "BAD ", None: "--  "}[finding.good]
            print(f"{mark}{finding.about:<10} {finding.says}", flush=True)
            if finding.way_out:
                print(f"{'':<15}{finding.way_out}")
            wrong += finding.good is False
    return int(wrong > 0)


def python(root: Path) -> Iterator[Finding]:
    version, new_enough = ".".join(map(str, sys.version_info[:3])), sys.version_info >= (3, 11)
    way = "" if new_enough else "make setup PYTHON=python3.11 (or newer)"
    yield Finding("Python", new_enough, f"{version}, {sys.executable}", way)
    unpinned = []
    for pin in _pins(root):
        try:
            installed = importlib.metadata.version(pin.name)
        except importlib.metadata.PackageNotFoundError:
            continue  # not needed here
        if not pin.specifier.contains(installed.partition("+")[0], prereleases=True):
            unpinned.append(f"{pin.name} {installed} (pinned {pin.specifier})")
    if unpinned:
        more = f" and {len(unpinned) - 5} more" if len(unpinned) > 5 else ""
        way = "results may differ in the last digits; pip install -r requirements.lock has the pins"
        yield Finding("packages", None, ", ".join(unpinned[:5]) + more, way)
    else:
        yield Finding("packages", True, "as requirements.lock pins them")


def _pins(root: Path) -> Iterator[Requirement]:
    """What requirements.lock pins for this platform."""
    for line in (root / "requirements.lock").read_text("utf-8").splitlines():
        if re.match(r"\w", line):
            pin = Requirement(line)
            if pin.marker is None or pin.marker.evaluate():
                yield pin


def torch(root: Path) -> Iterator[Finding]:
    command = [sys.executable, "-c", ASK_TORCH]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        lines = done.stderr.strip().splitlines()
        words = done.stdout.split()
    except subprocess.TimeoutExpired:
        lines, words = ["it does not import within two minutes"], []
    if not words:
        says = lines[-1] if lines else "it does not import"
        yield Finding("torch", False, says, "pip install -r requirements.lock")
        return
    version, cuda = words
    # Asked of the file: the study may run without being installed.
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    needed = map(Requirement, project["dependencies"])
    need = next(need for need in needed if need.name == "torch")
    good = need.specifier.contains(version, prereleases=True)
    says = version if good else f"{version}; the study needs {need.specifier}"
    yield Finding("torch", good, says, "" if good else "pip install -r requirements.lock")
    try:
        cards = gpus()
    except CannotStart as error:
        yield Finding("CUDA", False, str(error), "set TRADEOFF_DEVICE to one of these, or unset it")
        return
    if cuda == "True":
        names = f", GPUs {', '.join(cards)}" if cards else ", and left alone"
        yield Finding("CUDA", True, f"usable{names}")
    elif cards:
        says = f"there is a GPU ({', '.join(cards)}), but torch {version} cannot use it"
        way = "nvidia-smi shows the driver; install the torch built for it, see pytorch.org"
        yield Finding("CUDA", False, says, way)
    else:
        yield Finding("CUDA", None, f"no GPU: {WITHOUT_GPU}")


def disk(root: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(root).free / 1e9
    says = f"{free:.1f} GB free in {root}"
    if free > ROOM_FOR_ALL:
        yield Finding("disk", True, says)
        return
    says += f"; digits takes up to {ROOM_FOR_DIGITS} GB, mnist and cifar10 {ROOM_FOR_ALL:.0f} GB"
    way = "make room, or `dvc cache dir` on another disk; `dvc gc -w` thins it"
    yield Finding("disk", None if free > ROOM_FOR_DIGITS else False, says, way)


def repository(root: Path) -> Iterator[Finding]:
    try:
        untracked = git(root, "ls-files", "-o", "--exclude-standard", "--", *CODE).splitlines()
    except CannotStart as error:
        yield Finding("git", False, str(error), "clone the repository; a copy has no history")
        return
    if untracked:
        names = ", ".join(untracked[:3])
        yield Finding("git", False, f"code that git does not know: {names}", "git add it")
    else:
        yield Finding("git", True, git(root, "log", "-1", "--format=%h %s"))


def params(root: Path) -> Iterator[Finding]:
    try:
        cells = Study.load(root / "params.yaml").cells()
        yield Finding("params", True, f"params.yaml is valid: {len(cells)} cells")
    except BadParams as error:
        yield Finding("params", False, str(error), "edit params.yaml; comments there explain it")


def lock(root: Path) -> Iterator[Finding]:
    if not (root / lockfile.FILE).exists():
        yield Finding("dvc.lock", None, "there is none", "`tradeoff reproduce` makes it")
    elif repair.is_damaged(root):
        way = "tradeoff doctor --fix takes that of the last commit, the rest from DVC's run-cache"
        yield Finding("dvc.lock", False, "damaged", way)
    else:
        yield Finding("dvc.lock", True, f"{len(lockfile.read(root))} stages")


def _entries(root: Path) -> lockfile.Entries:
    """The entries of dvc.lock; none if it is damaged, which `lock` tells."""
    return {} if repair.is_damaged(root) else lockfile.read(root)


def in_use(root: Path) -> Iterator[Finding]:
    if fault := repair.in_use_fault(root):
        way = "tradeoff doctor --fix mends it; `tradeoff reproduce` does so by itself"
        yield Finding("DVC", False, f"{repair.IN_USE}, its list of files in use, {fault}", way)


def results(root: Path) -> Iterator[Finding]:
    computed = {n: block for n, block in _entries(root).items() if not n.startswith("prepare@")}
    for out, stage in altered(root, computed).items():
        fault = "is not what its stage wrote by dvc.lock"
        way = f"dvc repro -s {stage} restores it, or computes it again"
        if _without_returns(root / out) == lockfile.sums(computed[stage])[out]:
            fault = "has other line endings than its stage wrote"
            way = "git config core.autocrlf false, then git checkout -- " + out
        yield Finding("results", False, f"{out} {fault}", way)


def _without_returns(path: Path) -> str | None:
    """The checksum of a file had git, or an editor, not put a return before each end of line."""
    if not path.is_file():
        return None
    return hashlib.md5(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def data(root: Path) -> Iterator[Finding]:
    try:
        study = Study.load(root / "params.yaml")
    except BadParams:
        return
    entries = _entries(root)
    for name in study.axes.datasets:
        path = root / study.dataset(name).prepared
        wanted = lockfile.sums(entries.get(f"prepare@{name}", "")).values()
        way = f"dvc repro prepare@{name}"
        if not path.exists():
            yield Finding("data", None, f"{path.name} is not there", f"{way} makes it")
        elif wanted and digest(path) not in wanted:
            yield Finding("data", False, f"{path.name} is not the file of dvc.lock", way)
        else:
            yield Finding("data", True, path.name)


def cache(root: Path) -> Iterator[Finding]:
    try:
        from dvc.repo import Repo

        with Repo(str(root)) as repo:
            folder = Path(repo.cache.local.path).parents[1]
    except Exception as error:  # whatever DVC has to say
        yield Finding("DVC", False, str(error), "see .dvc/config and .dvc/config.local")
        return
    sums = {
        value
        for name, block in _entries(root).items()
        if name.startswith(("prepare@", "train", "attack@", "certify@"))
        for value in lockfile.sums(block).values()
    }
    cached = [v for v in sums if (folder / "files" / "md5" / v[:2] / v[2:]).exists()]
    if len(cached) == len(sums):
        yield Finding("DVC cache", True, f"{folder}, {len(sums)} outputs of dvc.lock are in it")
    else:
        absent = f"{len(sums) - len(cached)} of {len(sums)} outputs of dvc.lock"
        way = "`dvc pull` if you have a remote, else `tradeoff reproduce` computes them again"
        yield Finding("DVC cache", None, f"{folder}, {absent} are not in it", way)


CHECKS = (python, torch, disk, repository, params, lock, in_use, data, results, cache)
