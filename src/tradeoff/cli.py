"""The command `tradeoff`: evaluate, export, reproduce on many workers, status, doctor, verify.

What a command needs is imported when it is called, so that none waits for torch.
"""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from tradeoff.running.failures import explain


def main() -> NoReturn:
    """Run the command line; the exit status is that of the command."""
    given = parser().parse_args()
    # A scheduler's SIGTERM is handled as Ctrl-C is.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(given.run(given))
    except KeyboardInterrupt:
        sys.exit("\ninterrupted: run the same command again to go on")
    except BrokenPipeError:  # who reads has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        ours = type(error).__module__.startswith(("tradeoff.", "dvc."))
        message = str(error) if ours else explain(error, given.command)
        if message is None:
            raise
        sys.exit(f"tradeoff {given.command}: {message}")


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog="tradeoff", description="Evaluate a model; the study's cells."
    )
    commands = top.add_subparsers(dest="command", required=True)

    command = commands.add_parser("reproduce", help="compute what is stale, cells side by side")
    command.add_argument("targets", nargs="*", help="data sets, cells or stages; all if none")
    command.add_argument("--jobs", type=positive, help="cells at once; as many as there is room")
    command.add_argument("--per-gpu", type=positive, default=1, help="cells on one GPU at once")
    command.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="on a Ray cluster, such as auto; without ADDRESS a Ray on this machine",
    )
    command.add_argument(
        "--slurm",
        nargs="*",
        metavar="NAME=VALUE",
        help="on Slurm, with submitit's options, such as slurm_partition=gpu gpus_per_node=1",
    )
    command.set_defaults(run=_reproduce)

    command = commands.add_parser("plan", help="which cells fit into some hours of a GPU")
    command.add_argument("--gpu", required=True, help="such as T4; a wrong one lists all")
    command.add_argument("--hours", type=amount, required=True)
    command.add_argument(
        "--rate", type=amount, help="1e12 operations a second that training was measured to reach"
    )
    command.set_defaults(run=_plan)

    _add_evaluate(commands)

    command = commands.add_parser("export", help="a cell's model for people without the study")
    command.add_argument("cell", help="such as trades-resnet18-digits-0")
    command.add_argument("--out", type=Path, help="a folder; exports/CELL if none")
    command.set_defaults(run=_export)

    command = commands.add_parser("status", help="the matrix at a glance")
    command.add_argument("datasets", nargs="*", help="data sets; all if none")
    command.set_defaults(run=_status)

    command = commands.add_parser("doctor", help="look for what could go wrong, and the way out")
    command.add_argument("--fix", action="store_true", help="mend what a killed DVC has damaged")
    command.set_defaults(run=_doctor)

    command = commands.add_parser("verify", help="rerun a cell elsewhere and compare the results")
    command.add_argument("cell", help="such as trades-resnet18-digits-0")
    command.set_defaults(run=_verify)
    return top


EXAMPLES = """examples:
  tradeoff evaluate model.pt2 images.npz --epsilon 8/255
  tradeoff evaluate robustbench:Carmon2019Unlabeled images.npz --epsilon 8/255 --report page.html
  tradeoff evaluate timm:resnet18 pictures/ --norm l2 --epsilon 0.5 --suite bounded
  tradeoff evaluate weights.safetensors images.npz --architecture resnet18 --epsilon 0.3
  tradeoff evaluate trades-vgg16-digits-0 --suite minimal --out ledger.npz    (in the study's clone)

MODEL maps images in [0, 1] to logits: a TorchScript, torch.export (.pt2) or .safetensors file,
robustbench:NAME, timm:NAME, hf:ORG/NAME, or a cell of the study. DATA is an .npz file with `images`
float32 (N, C, H, W) in [0, 1] and `labels` (N,), a folder with a folder of pictures for each class,
or a data set of the study; a cell needs none.
"""


def _add_evaluate(commands: Any) -> None:
    command = commands.add_parser(
        "evaluate",
        help="put anybody's model through a suite of attacks",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("model", metavar="MODEL")
    command.add_argument("data", metavar="DATA", nargs="?")
    command.add_argument(
        "--suite", default="autoattack", help="autoattack (default), bounded, minimal or square"
    )
    command.add_argument("--norm", choices=["linf", "l2"], help="a cell's own; else linf")
    command.add_argument("--epsilon", help="such as 8/255 or 0.3; a cell has its own")
    command.add_argument("--architecture", help="whose weights a .safetensors file holds")
    command.add_argument(
        "--copies", type=positive, help="of a random model: so many calls vote on an image"
    )
    command.add_argument("--out", type=Path, metavar="LEDGER.npz", help="write what became of each")
    command.add_argument("--report", type=Path, metavar="PAGE.html", help="write a page about it")
    command.add_argument("--json", action="store_true", help="print the numbers as JSON")
    command.set_defaults(run=_evaluate)


def positive(text: str) -> int:
    """A count on the command line."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def amount(text: str) -> float:
    """A number above 0 on the command line."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


def repository() -> Path:
    """The root of the repository, which the current folder may be deep inside."""
    from tradeoff.cluster.clone import CannotStart

    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").exists() and (folder / "params.yaml").exists():
            os.chdir(folder)
            return folder
    raise CannotStart(f"{here} is not in a clone of the study: no dvc.yaml and params.yaml there")


def _reproduce(given: argparse.Namespace) -> int:
    from tradeoff.cluster.clone import CannotStart
    from tradeoff.cluster.engines import Engine, Local, Ray, Submitit
    from tradeoff.cluster.reproduce import reproduce

    root = repository()
    if given.ray and given.slurm is not None:
        raise CannotStart("--ray or --slurm, not both")
    if given.slurm is not None and given.per_gpu > 1:
        raise CannotStart("--per-gpu is for this machine and Ray; on Slurm ask for shards of GPUs")

    address = None if given.ray == "local" else given.ray
    if address is not None:
        _refuse_a_target(root, address, given.targets)
        cluster = Ray(address, given.jobs, given.per_gpu)  # before any work: is there one?

    def engine() -> Engine:
        if address is not None:
            return cluster
        if given.ray:
            return Ray(None, given.jobs, given.per_gpu)
        if given.slurm is not None:
            return Submitit(root, given.slurm, given.jobs)
        return Local(given.jobs, given.per_gpu)

    def say(message: str) -> None:
        print(f"\r\033[K{message}" if sys.stderr.isatty() else message, flush=True)

    return reproduce(root, given.targets, engine, say)


def _refuse_a_target(root: Path, address: str, targets: list[str]) -> None:
    """`--ray digits` would look for a cluster named digits, to compute the whole study there."""
    from tradeoff.cluster.clone import CannotStart
    from tradeoff.cluster.plan import stage_targets
    from tradeoff.core.schema import BadParams
    from tradeoff.core.study import Study

    study = Study.load(root / "params.yaml")
    try:
        stage_targets(study, [address])
    except BadParams:
        return  # it is none
    raise CannotStart(
        f"--ray takes {address!r} for the address of a cluster, and it is a target. Targets come "
        f"first: tradeoff reproduce {' '.join([address, *targets])} --ray"
    )


def _plan(given: argparse.Namespace) -> int:
    from tradeoff.cluster.budget import show

    return show(repository(), given.gpu, given.hours, given.rate)


def _evaluate(given: argparse.Namespace) -> int:
    from tradeoff.evaluation.command import run

    return run(given)


def _export(given: argparse.Namespace) -> int:
    folder = (given.out or Path("exports", given.cell)).resolve()
    repository()
    from tradeoff.evaluation.export import export

    for path in export(given.cell, folder):
        print(path)
    return 0


def _status(given: argparse.Namespace) -> int:
    from tradeoff.cluster.status import show

    return show(repository(), given.datasets)


def _doctor(given: argparse.Namespace) -> int:
    from tradeoff.cluster.doctor import examine

    return examine(repository(), given.fix)


def _verify(given: argparse.Namespace) -> int:
    from tradeoff.cluster.verify import verify

    return verify(repository(), given.cell)
