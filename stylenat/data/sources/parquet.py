"""Images in Parquet files, as data sets are kept on the Hugging Face hub."""

import importlib
import os
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any

from stylenat.data.sources.base import Source
from stylenat.errors import UserError
from stylenat.io import brief


class Parquet(Source):
    """The encoded images of a Parquet file, or of all below a folder, sorted by name.

    The column is the first that holds bytes, or records with a field ``bytes`` (the hub's
    ``Image`` feature). pyarrow is needed, which nothing else here needs.
    """

    def __init__(self, path: str | Path, licence: str = "not stated") -> None:
        self.path = Path(path)
        self.licence = licence
        parquet, _ = _pyarrow()
        paths = sorted(self.path.rglob("*.parquet")) if self.path.is_dir() else [self.path]
        # One entry per row group, the unit that can be read alone: (file, group, column).
        self.groups: list[tuple[Path, int, str]] = []
        self.names: list[str] = []
        counts = []
        for file in paths:
            try:
                opened = parquet.ParquetFile(file)
            except (OSError, ValueError) as error:
                raise UserError(f"{file} is not a whole Parquet file ({brief(error)}).") from error
            column = _image_column(file, opened.schema_arrow)
            for group in range(opened.num_row_groups):
                self.groups.append((file, group, column))
                counts.append(opened.metadata.row_group(group).num_rows)
            self.names += [f"{file.name} row {row}" for row in range(opened.metadata.num_rows)]
        self.starts = [0, *accumulate(counts)]
        if not self.names:
            raise UserError(f"{self.path} holds no images in Parquet files.")
        self._forget()

    def _forget(self) -> None:
        self._held: tuple[int, int] | None = None  # (process, row group) in memory
        self._column: Any = None

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_held": None, "_column": None}

    def read(self, index: int) -> bytes:
        which = bisect_right(self.starts, index) - 1
        if self._held != (os.getpid(), which):
            self._forget()  # before the next is read: a group may be large
            file, group, column = self.groups[which]
            parquet, _ = _pyarrow()
            table = parquet.ParquetFile(file).read_row_group(group, columns=[column])
            self._column, self._held = table.column(column), (os.getpid(), which)
        value = self._column[index - self.starts[which]].as_py()
        data: bytes | None = value["bytes"] if isinstance(value, dict) else value
        if data is None:
            raise OSError("the row holds no image")
        return data

    def describe(self) -> str:
        return f"parquet: {self.path}"


def _pyarrow() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow.parquet"), importlib.import_module("pyarrow.types")
    except ImportError:
        raise UserError("reading Parquet files needs pyarrow; pip install pyarrow.") from None


def _image_column(file: Path, schema: Any) -> str:
    _, types = _pyarrow()
    for field in schema:
        kind = field.type
        if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            return str(field.name)
        if types.is_binary(kind) or types.is_large_binary(kind):
            return str(field.name)
    raise UserError(f"{file} has no column of images; its columns are {', '.join(schema.names)}.")
