"""The code that each stage runs, as DVC is told of it: a text for each use in the folder `code`.

DVC knows files and no imports. So the first stage of dvc.yaml follows the import statements from
every script, and writes which files they reach, with a hash of each; the other stages depend on
these texts. Hashed is code alone, without docstrings, comments and blank lines: a corrected
sentence changes no text, and nothing reruns.

Not listed are tradeoff.core, which reads params.yaml, whose values are dependencies themselves, and
tradeoff.running, which keeps unfinished work and tells what goes on.
"""

import ast
import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tradeoff.core import foundations
from tradeoff.core.files import atomic_write, file_hash
from tradeoff.core.plugins import constant
from tradeoff.core.study import Study

FOLDER = Path("code")
PACKAGE = Path("src", "tradeoff")
NOT_LISTED = ("tradeoff.core.", "tradeoff.running.", "_environment")

# What a module of a stage reads of the package beside code.
READS = {"tradeoff.reporting.tellings": "defenses/*.yaml"}

# A string, which stays as it is, or the ends of lines with what is no code: comments, blank lines.
STRING_OR_LINE_END = re.compile(
    r"""(?P<quote>\"{3}|'{3}|"|')(?:\\.|(?!(?P=quote)).)*(?P=quote)|(?:[ \t]*(?:\#[^\n]*)?\n)+""",
    re.DOTALL,
)

# Which modules may be meant where one is imported by a name: those of a folder, by the folder.
Named = Mapping[str, Collection[str]]
Modules = Mapping[str, Path]


class BadCode(Exception):
    """What a stage runs cannot be told; says which file is at fault."""


@dataclass(frozen=True)
class Source:
    """What a file of code says.

    Attributes:
        digest: a hash of the code; "" if there is none.
        imports: what it imports: names of modules, of what is in them, and of their packages.
        by_name: folders of the package from which it imports a module by a name of params.yaml.
    """

    digest: str
    imports: frozenset[str]
    by_name: frozenset[str]


def texts(root: Path, study: Study) -> dict[Path, str]:
    """The files of the folder `code` as they should be.

    Raises:
        BadCode: a file cannot be parsed, or imports a module by a name that is not told here.
    """
    modules, listed = find_modules(root), {}
    for use, (start, named) in _uses(study).items():
        lines = [f"{path.as_posix()} {digest}\n" for path, digest in _files(modules, start, named)]
        listed[FOLDER / use] = "".join(sorted(lines))
    return listed


def write(root: Path, wanted: Mapping[Path, str]) -> list[Path]:
    """Write the files of the folder `code` and delete all others in it.

    Returns:
        The files that were written or deleted; one that says the same already stays as it is.
    """
    existing = {path.relative_to(root) for path in (root / FOLDER).rglob("*") if path.is_file()}
    for path in existing - {*wanted}:
        (root / path).unlink()
    changed = [path for path, text in wanted.items() if _read(root / path) != text]
    for path in changed:
        with atomic_write(root / path) as partial:
            partial.write_text(wanted[path], "utf-8")
    return sorted({*changed, *(existing - {*wanted})})


def _read(path: Path) -> str | None:
    return path.read_text("utf-8") if path.exists() else None


def _uses(study: Study) -> dict[str, tuple[str, Named]]:
    """For each file of the folder `code` the module where it starts, and the modules that
    params.yaml names.

    A stage that loads a model lists neither its network's code nor its classifier's: an
    architecture has a file of its own, and the model holds a hash of its classifier's code.
    """
    axes, loading = study.axes, {"archs": (), "classifiers": ()}
    uses: dict[str, tuple[str, Named]] = {}

    def use(stage: str, name: str = "", **named: Collection[str]) -> None:
        uses[f"{stage}/{name}".rstrip("/")] = stage, loading | named

    for dataset in axes.datasets:
        use("prepare", dataset, datasets=[study.dataset(dataset).source.module])
    for name in axes.listed:
        certified = constant("defenses", name, "SELECT_BY") == "certified"
        proofs = [str(foundations.certificate(name))] if certified else []
        classifiers = [foundations.classifier(name)]
        use("train", name, defenses=[name], classifiers=classifiers, certificates=proofs)
    for suite in axes.suites:
        attacks = [a for data in study.datasets.values() for a in data.suite(suite).attacks]
        use("attack", suite, attacks={attack.module for attack in attacks})
    for name in axes.certified:
        use("certify", name, certificates=[str(foundations.certificate(name))])
    for name in axes.architectures:
        uses[f"archs/{name}"] = f"tradeoff.archs.{name}", {}
    extraction = study.transfer.extraction
    substitutes = [extraction.architecture] if extraction else []
    use("transfer", archs=[*axes.architectures, *substitutes])
    use("examples", archs=axes.architectures)
    for stage in ("summarize", "report", "chapter", "index"):
        use(stage)
    return uses


def find_modules(root: Path) -> dict[str, Path]:
    """All code of the project by the names with which it is imported."""
    modules = {path.stem: path for path in (root / "stages").glob("*.py")}
    for path in (root / PACKAGE).rglob("*.py"):
        name = ".".join(path.relative_to(root / PACKAGE.parent).with_suffix("").parts)
        modules[name.removesuffix(".__init__")] = path
    return modules


def _files(modules: Modules, start: str, named: Named) -> Iterator[tuple[Path, str]]:
    """The files that decide what a module computes, each with a hash."""
    root = modules["tradeoff"].parents[2]
    for name in reached(modules, start, named):
        path = modules[name]
        if not name.startswith(NOT_LISTED) and (digest := source(path).digest):
            yield path.relative_to(root), digest
        for data in (root / PACKAGE).glob(READS[name]) if name in READS else ():
            yield data.relative_to(root), file_hash(data)


def reached(modules: Modules, start: str, named: Named) -> set[str]:
    """A module and all that importing it imports.

    Raises:
        BadCode: a module is imported by a name that `named` does not tell.
    """
    visited: set[str] = set()
    waiting = {start}
    while waiting:
        name = waiting.pop()
        visited.add(name)
        code = source(modules[name])
        imports = {*code.imports}
        for folder in code.by_name:
            if folder not in named:
                raise BadCode(f"{start}: core/code.py does not tell which of {folder} {name} takes")
            imports |= {f"tradeoff.{folder}.{module}" for module in named[folder]}
        waiting |= imports & modules.keys() - visited
    return visited


def source(path: Path) -> Source:
    """What a file of code says; it is read again only once it was changed."""
    about = path.stat()
    return _source(path, about.st_mtime_ns, about.st_size)


@cache
def _source(path: Path, _changed: int, _size: int) -> Source:
    text = path.read_text("utf-8")
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise BadCode(f"{path}:{error.lineno}: {error.msg}") from None
    nodes = list(ast.walk(tree))
    imports: set[str] = set()
    by_name: set[str] = set()
    # What a package exports by __getattr__ is loaded by those who ask for it only.
    for node in tree.body if path.name == "__init__.py" else nodes:
        match node:
            case ast.Import():
                imports |= {alias.name for alias in node.names}
            case ast.ImportFrom(module=str(module)):
                imports |= {f"{module}.{alias.name}" for alias in node.names}
            case ast.JoinedStr(values=[ast.Constant(value=str(prefix)), *_]):
                by_name |= {*re.findall(r"^tradeoff\.(\w+)\.$", prefix)}
    code = bare(text, nodes).encode()
    digest = hashlib.sha256(code).hexdigest()[:16] if code else ""
    packages = (name[: dot.start()] for name in imports for dot in re.finditer(r"\.|$", name))
    return Source(digest, frozenset(packages), frozenset(by_name))


def bare(text: str, nodes: Iterable[ast.AST]) -> str:
    """Code without docstrings, comments and blank lines; `nodes` are those of its syntax tree."""
    lines = text.split("\n")
    for node in nodes:
        match node:
            case (
                ast.Module(body=[first, *_])
                | ast.ClassDef(body=[first, *_])
                | ast.FunctionDef(body=[first, *_])
                | ast.AsyncFunctionDef(body=[first, *_])
            ):
                _remove_docstring(first, lines)
    return STRING_OR_LINE_END.sub(_bare, "\n".join(lines) + "\n").strip("\n")


def _remove_docstring(statement: ast.stmt, lines: list[str]) -> None:
    """Empty the lines of a statement if it is a docstring with nothing but a comment beside it."""
    match statement:
        case ast.Expr(value=ast.Constant(value=str()), end_lineno=int(last)):
            first = statement.lineno - 1
            before = lines[first].encode()[: statement.col_offset]
            after = lines[last - 1].encode()[statement.end_col_offset :].lstrip()
            if not before.strip() and after[:1] in (b"", b"#"):
                lines[first:last] = [""] * (last - first)


def _bare(match: re.Match[str]) -> str:
    return match[0] if match["quote"] else "\n"
