"""Parquet as other tools write it."""

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = {"train": 40, "val": 9}


def values(rows, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "y": rng.normal(size=(rows, 4, 2)).astype("<f4"),
        "taps": rng.integers(-5, 5, (rows, 3)).astype("<i4"),
        "snr": rng.normal(size=rows),
        "scene_id": rng.permutation(rows) + 1000 * seed,
    }


def by_pandas(path, arrays):
    frame = pd.DataFrame(
        {name: list(array) if array.ndim < 3 else array.tolist() for name, array in arrays.items()}
    )
    schema = pa.schema(
        [
            ("y", pa.list_(pa.list_(pa.float32()))),
            ("taps", pa.list_(pa.int32())),
            ("snr", pa.float64()),
            ("scene_id", pa.int64()),
        ]
    )
    frame.to_parquet(path, schema=schema)


def by_polars(path, arrays):
    pl.DataFrame(arrays).write_parquet(path)


def by_duckdb(path, arrays):
    table = arrow(arrays, lambda a: pa.array(a.tolist(), pa.list_(pa.list_(pa.float32()))))
    with duckdb.connect() as connection:
        connection.register("t", table)
        connection.execute(f"copy t to '{path}' (format parquet, row_group_size 2048)")


def arrow(arrays, tensor):
    return pa.table(
        {
            "y": tensor(arrays["y"]),
            "taps": pa.array(arrays["taps"].tolist(), pa.list_(pa.int32())),
            "snr": arrays["snr"],
            "scene_id": arrays["scene_id"],
        }
    )


def by_tensor_type(path, arrays):
    table = arrow(arrays, pa.FixedShapeTensorArray.from_numpy_ndarray)
    pq.write_table(table, path, row_group_size=16, compression="zstd")


def by_permuted_tensor_type(path, arrays):
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(
        arrays["y"].transpose(0, 2, 1).copy().transpose(0, 2, 1)
    )
    assert tensors.type.permutation == [1, 0]
    pq.write_table(arrow(arrays, lambda _: tensors), path)


def by_nested_fixed_lists(path, arrays):
    kind = pa.list_(pa.list_(pa.float32(), 2), 4)
    pq.write_table(arrow(arrays, lambda a: pa.array(a.tolist(), kind)), path, compression="snappy")


def by_opaque_bytes(path, arrays):
    table = arrow(arrays, lambda a: pa.array([row.tobytes() for row in a], pa.binary(32)))
    field = table.schema.field("y").with_metadata({"shape": "[4, 2]", "dtype": "<f4"})
    pq.write_table(table.cast(table.schema.set(0, field)), path, row_group_size=11)


WRITERS = [
    by_pandas,
    by_polars,
    by_duckdb,
    by_tensor_type,
    by_permuted_tensor_type,
    by_nested_fixed_lists,
    by_opaque_bytes,
]


def lay(root, write=by_polars, **changes):
    """A directory as a user might have it: several files a split."""
    for seed, (split, rows) in enumerate(ROWS.items()):
        (root / split).mkdir(parents=True)
        arrays = values(rows, seed)
        for number, part in enumerate(np.array_split(np.arange(rows), 2)):
            write(root / split / f"{number}.parquet", {name: array[part] for name, array in arrays.items()})
    return str(root)
