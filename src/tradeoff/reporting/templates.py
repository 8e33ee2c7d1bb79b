"""Filling templates in: an error in one is told with the file and its line."""

import traceback
from collections.abc import Mapping
from pathlib import Path

from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    TemplateNotFound,
    TemplateSyntaxError,
    UndefinedError,
)


class BadTemplate(Exception):
    """A template cannot be filled in; the message names the file, the line and what is wrong."""


def environment(folder: Path, **options: object) -> Environment:
    """Jinja's settings that pages and chapters share: a name that nothing gives is an error."""
    return Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,  # type: ignore[arg-type]
    )


def render(environment: Environment, template: str, values: Mapping[str, object]) -> str:
    """The template filled in.

    Raises:
        BadTemplate: it is missing, is no template or no UTF-8, or uses a name that is not there.
    """
    try:
        return environment.get_template(template).render(values)
    except TemplateSyntaxError as error:
        raise BadTemplate(f"{error.name}, line {error.lineno}: {error.message}") from None
    except UnicodeDecodeError as error:
        raise BadTemplate(f"{template}: is not in UTF-8: {error.reason}") from None
    except TemplateNotFound as error:
        raise BadTemplate(f"{error.name}: not found") from None
    except Exception as error:
        # Jinja gives the lines of templates to Python's own account of an error.
        last = traceback.extract_tb(error.__traceback__)[-1]
        if not (isinstance(error, UndefinedError) or last.filename.endswith(template)):
            raise
        lines = [at for at in traceback.extract_tb(error.__traceback__) if ".j2" in at.filename]
        where = f"{Path(lines[-1].filename).name}, line {lines[-1].lineno}" if lines else template
        raise BadTemplate(f"{where}: {error}") from error
