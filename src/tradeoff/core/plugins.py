"""What the files of defenses, classifiers, certificates and attacks say of themselves.

They are read without being imported: a wrong key of params.yaml should be told at once, but these
files import torch, which takes seconds; and a stage that only reads params must not depend on the
code of every defense.
"""

import ast
from functools import cache
from pathlib import Path
from typing import Any

from tradeoff.core import schema
from tradeoff.core.schema import BadParams, Section

PACKAGE = Path(__file__).parents[1]


@cache
def module_names(folder: str, attribute: str) -> list[str]:
    """The modules of a package folder that define `attribute`: what params.yaml may name."""
    paths = sorted((PACKAGE / folder).glob("*.py"))
    return [path.stem for path in paths if _definition(folder, path.stem, attribute)]


@cache
def knobs_class(folder: str, name: str) -> type[Section]:
    """The class `Knobs` of a module, which may use the names of `core.schema` and no others.

    The class alone is cut out of the file and executed: all else in the file needs torch.
    """
    definition = _definition(folder, name, "Knobs")
    assert definition is not None, f"{folder}/{name}.py defines no class Knobs"
    namespace = dict(vars(schema))
    exec(compile(ast.Module([definition], []), f"{folder}/{name}.py", "exec"), namespace)
    knobs: type[Section] = namespace["Knobs"]
    return knobs


@cache
def constant(folder: str, name: str, attribute: str, default: Any = None) -> Any:
    """The literal that a module assigns to `attribute`, or the default if it assigns none."""
    definition = _definition(folder, name, attribute)
    if isinstance(definition, ast.Assign | ast.AnnAssign) and definition.value is not None:
        return ast.literal_eval(definition.value)
    return default


def defines(folder: str, name: str, attribute: str) -> bool:
    """Whether a module defines a class, function or constant of this name, or takes it over."""
    return _definition(folder, name, attribute) is not None


@cache
def _definition(folder: str, name: str, attribute: str) -> ast.stmt | None:
    """The statement that defines `attribute`; of a variant, the one in the module it stands on."""
    beside = ".".join(["tradeoff", folder, ""])
    path = PACKAGE / folder / f"{name}.py"
    if not path.exists():  # a study, or results in git, may name what the package has no more
        return None
    for node in reversed(_statements(path)):  # the last one holds
        match node:
            case ast.ClassDef(name=defined) | ast.FunctionDef(name=defined) if defined == attribute:
                return node
            case ast.Assign(targets=[ast.Name(id=defined)]) if defined == attribute:
                return node
            case ast.AnnAssign(target=ast.Name(id=defined)) if defined == attribute:
                return node
            case ast.ImportFrom(module=str(module)) if module.startswith(beside):
                root = module.rpartition(".")[2]
                for alias in node.names:
                    if alias.name in ("*", attribute) and (alias.asname in (None, attribute)):
                        inherited = _definition(folder, root, attribute)
                        if inherited is not None:
                            return inherited
    return None


@cache
def _statements(path: Path) -> list[ast.stmt]:
    try:
        return ast.parse(path.read_text("utf-8")).body
    except SyntaxError as error:
        raise BadParams(f"{path}:{error.lineno}: {error.msg}") from None
