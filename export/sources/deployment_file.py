"""``latentloop.toml`` beside a checkpoint: what its weights do not say."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from export.sources.source import SourceError

Table = TypeVar("Table", bound=msgspec.Struct)


def read_deployment_file(path: Path, kind: type[Table]) -> Table:
    """The file as ``kind``, or its defaults if there is no file. Raises SourceError."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return kind()
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror}): check its permissions") from None
    except msgspec.DecodeError as error:
        raise SourceError(f"{path} is not valid: {error}; docs/export.md has an example") from None
