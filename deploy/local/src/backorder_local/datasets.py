"""Reads purchases from parquet: as much of a file as is replayed, and some lines before that for a forecast."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from backorder_local import journey, retail
from backorder_local.errors import LocalError
from backorder_local.purchases import Purchases

BATCH_ROWS = 16_384


def read(file: Path | None, *, lines: int, seed: int) -> Purchases:
    """About `lines` order lines of a file, or of Complete Journey, in whole orders. Raises LocalError."""
    path = file or journey.installed_file()
    try:
        table = pq.ParquetFile(path)
    except OSError as error:
        raise LocalError(f"{path} can't be read: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise LocalError(f"{path} can't be read as parquet: {one_line(error)}") from error
    columns = set(table.schema_arrow.names)
    if retail.COLUMNS.keys() <= columns:
        return retail.read(rows(path, table, retail.COLUMNS), lines)
    if journey.COLUMNS.keys() <= columns:
        return journey.read(path.with_name("products.parquet"), rows(path, table, journey.COLUMNS), lines, seed)
    raise LocalError(
        f"{path} has other columns than Online Retail ({', '.join(sorted(retail.COLUMNS.keys() - columns))} missing) "
        f"and Complete Journey ({', '.join(sorted(journey.COLUMNS.keys() - columns))} missing)."
    )


def rows(path: Path, table: pq.ParquetFile, types: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Rows as tuples of Python values in the order of `types`, read as far as somebody asks. Raises LocalError."""
    try:
        for batch in table.iter_batches(BATCH_ROWS, columns=list(types)):
            for name, type_ in types.items():
                if batch.column(name).type != type_:
                    batch = batch.set_column(  # noqa: PLW2901  the same batch in other types
                        batch.schema.get_field_index(name), name, batch.column(name).cast(type_)
                    )
            yield from zip(*(batch.column(name).to_pylist() for name in types), strict=True)
    except (pa.ArrowException, OSError) as error:
        raise LocalError(f"{path} can't be used: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())
