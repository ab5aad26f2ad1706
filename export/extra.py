"""Name the extra to install where a package of it is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edge.errors import UserError


@contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Imports inside may fail for want of a package that ``extra`` brings. Raises UserError, which says how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(f"this needs the package {error.name}: pip install 'latentloop[{extra}]'") from None
