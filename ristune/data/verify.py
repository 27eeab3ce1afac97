"""Whether a dataset is sound: every byte, every page, every value, every id; all faults are listed."""

import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import reduce
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristune.data.columns import Column, id_column
from ristune.data.manifest import MANIFEST, PIN, SPLITS, Manifest, Shard, Statistics, check_pin, parse
from ristune.data.pages import Finding, layout_faults, place
from ristune.data.shards import cut, damaged
from ristune.data.writing.statistics import Moments, merge, moments, summarise
from ristune.errors import InputError
from ristune.storage.access import Storage

# Hashing releases the interpreter; each thread holds one file in memory.
THREADS = min(4, os.cpu_count() or 1)
AGAIN = "copy the file again from where it is sound, or write the dataset again"
# Sums of many numbers have other last digits in another order. A mean near 0 is held against the spread.
TOLERANCE = 1e-6
# Of the mean, for the spread: what rounding in float64 leaves of that of a constant.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Examined:
    """What is kept of a file once its bytes have left memory.

    Attributes:
        findings: its faults.
        ids: the ids of its rows, sorted, [rows], int64; none where the file is not sound or has no ids.
        moments: of the columns asked for, by name; none where the file is not sound.
    """

    findings: tuple[Finding, ...]
    ids: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    moments: Mapping[str, Moments] = field(default_factory=dict)


def verify(
    storage: Storage,
    progress: Callable[[int, int], None] | None = None,
    threads: int = THREADS,
    fast: bool = False,
) -> Iterator[Finding]:
    """Check a dataset and go on after a fault.

    Args:
        storage: the dataset.
        progress: called after every file with its bytes and those of all files.
        threads: files that are read at once; memory is one file a thread.
        fast: look at manifest and sizes only, and read no file.

    Yields:
        A finding for each fault. Nothing but the manifest is checked where that cannot be read.
    """
    try:
        manifest = parse(storage.read(MANIFEST), storage.uri)
    except InputError as error:
        yield _of(error, storage)
        return
    try:
        check_pin(manifest, storage.read(PIN), storage.uri)
    except InputError as error:
        yield _of(error, storage)
    yield from _strays(storage, manifest)
    files = _list_files(manifest)
    if fast:
        yield from _wrong_sizes(storage, files)
        return
    total = sum(each.shard.bytes for each in files)
    executor = ThreadPoolExecutor(threads)
    try:
        examined: dict[str, list[Examined]] = {}
        jobs = [executor.submit(_examine, storage, each, manifest) for each in files]
        for each, job in zip(files, jobs, strict=True):
            examined.setdefault(each.split, []).append(job.result())
            if progress is not None:
                progress(each.shard.bytes, total)
            yield from examined[each.split][-1].findings
    finally:
        executor.shutdown(cancel_futures=True)
    yield from _repeated_ids({split: parts for split, parts in examined.items() if split})
    yield from _wrong_statistics(manifest, examined.get("train", []))


@dataclass(frozen=True)
class File:
    """A file of a dataset: what the manifest says of it, its columns, and its split or `""` for a table."""

    shard: Shard
    columns: Sequence[Column]
    split: str


def _list_files(manifest: Manifest) -> list[File]:
    """All files of a dataset, shards first, split by split."""
    shards = [
        File(shard, manifest.columns, name)
        for name in SPLITS
        if name in manifest.splits
        for shard in manifest.splits[name].shards
    ]
    return shards + [File(table, table.columns, "") for table in manifest.tables.values()]


def _of(error: InputError, storage: Storage) -> Finding:
    return Finding(
        error.name.removeprefix(f"{storage.uri}/"), f"got {error.value!r}; {error.rule}; {error.remedy}"
    )


def _strays(storage: Storage, manifest: Manifest) -> Iterator[Finding]:
    """Files that are no part of the dataset; a directory that is none is one finding."""
    known = {MANIFEST, PIN, *(each.shard.path for each in _list_files(manifest))}
    folders = {""} | {path[:i] for path in known for i, letter in enumerate(path) if letter == "/"}
    for folder in sorted(folders):
        for name in storage.list(folder):
            path = f"{folder}/{name}" if folder else name
            if path not in known | folders:
                yield Finding(path, "the manifest does not know it; move it out of the dataset, or delete it")
        for name in storage.leftovers(folder):
            path = f"{folder}/{name}" if folder else name
            yield Finding(path, "a write that was interrupted left it behind; delete it once nobody writes")


def _wrong_sizes(storage: Storage, files: Sequence[File]) -> Iterator[Finding]:
    for shard in (each.shard for each in files):
        try:
            size = storage.size(shard.path)
        except InputError as error:
            yield _of(error, storage)
            continue
        if size != shard.bytes:
            yield _wrong_size(shard, size)


def _wrong_size(shard: Shard, size: int) -> Finding:
    return Finding(shard.path, f"it has {size} bytes, the manifest says {shard.bytes}; {AGAIN}")


def _examine(storage: Storage, file: File, manifest: Manifest) -> Examined:
    try:
        data = memoryview(storage.read(file.shard.path))
    except InputError as error:
        return Examined((_of(error, storage),))
    findings = tuple(_byte_faults(data, file)) or tuple(layout_faults(data, file.shard, file.columns))
    return Examined(findings) if findings else _examine_values(data, file, manifest)


def _byte_faults(data: memoryview, file: File) -> Iterator[Finding]:
    """Length and hashes: which columns were altered, or that none was but what lies between them."""
    shard = file.shard
    if len(data) != shard.bytes:
        yield _wrong_size(shard, len(data))
    digest = hashlib.sha256(data).hexdigest()
    altered = [
        place(shard.path, index, name)
        for index, group in enumerate(shard.row_groups)
        for name in damaged(data, 0, group, file.columns)
    ]
    for where in altered:
        if digest == shard.sha256:
            text = "its bytes have another CRC-32 than the manifest says, though the file has its sha256"
            yield Finding(where, f"{text}; write the manifest again")
        else:
            yield Finding(where, f"its bytes were altered: their CRC-32 is not the manifest's; {AGAIN}")
    if digest != shard.sha256:
        extent = (
            f"in {len(altered)} of its column chunks" if altered else "beside its columns, as in the footer"
        )
        yield Finding(
            shard.path, f"its sha256 is {digest}, the manifest says {shard.sha256}: altered {extent}; {AGAIN}"
        )


def _examine_values(data: memoryview, file: File, manifest: Manifest) -> Examined:
    findings: list[Finding] = []
    parts: dict[str, list[Moments]] = {}
    name = id_column(file.columns, file.shard.path).name if file.split else ""
    ids: list[NDArray[np.int64]] = []
    for index, group in enumerate(file.shard.row_groups):
        for column in file.columns:
            array = cut(data, 0, group, [column])[column.name]
            fault = _value_fault(array, column)
            if fault:
                findings.append(Finding(place(file.shard.path, index, column.name), fault))
            elif file.split == "train" and column.name in manifest.statistics:
                parts.setdefault(column.name, []).append(moments(array))
            if column.name == name:
                ids.append(array)
    gathered = np.sort(np.concatenate(ids)) if ids else np.empty(0, np.int64)
    return Examined(
        tuple(findings), gathered, {} if findings else {k: reduce(merge, v) for k, v in parts.items()}
    )


def _value_fault(array: NDArray[Any], column: Column) -> str:
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        if not finite.all():
            first = np.argwhere(~finite)[0]
            count, value = int(finite.size - np.count_nonzero(finite)), float(array[tuple(first)])
            found = f"{count} values are not finite, the first is {value} in row {first[0]} of the row group"
            return f"{found}; leave such rows out where the data are made"
    limits = np.iinfo(column.dtype) if array.dtype != np.dtype(column.dtype) else None
    if limits is not None and (array.min() < limits.min or array.max() > limits.max):
        return f"values from {array.min()} to {array.max()} do not fit {column.dtype}; give it a wider dtype"
    return ""


def _repeated_ids(examined: Mapping[str, Sequence[Examined]]) -> Iterator[Finding]:
    ids = {split: np.sort(np.concatenate([part.ids for part in parts])) for split, parts in examined.items()}
    for split, known in ids.items():
        repeats = known[1:][known[1:] == known[:-1]]
        if repeats.size:
            yield _repeated(f"split {split!r}", repeats)
    for one, other in combinations(ids, 2):
        shared = np.intersect1d(ids[one], ids[other])
        if shared.size:
            yield _repeated(f"splits {one!r} and {other!r}", shared)


def _repeated(where: str, ids: NDArray[np.int64]) -> Finding:
    remedy = "every row of every split has an id of its own: look for the same sample twice, or number anew"
    return Finding(where, f"{ids.size} ids occur twice, the first is {ids[0]}; {remedy}")


def _wrong_statistics(manifest: Manifest, train: Sequence[Examined]) -> Iterator[Finding]:
    """Statistics against the data, where all of the train split is sound."""
    if any(part.findings for part in train):
        return
    for name, said in manifest.statistics.items():
        where = f"{MANIFEST}: statistics.{name}"
        if not train:
            yield Finding(where, "statistics are of the train split, and there is none; leave them out")
            continue
        found = summarise(part.moments[name] for part in train)
        if not _agree(said, found):
            remedy = "write the manifest with these, or without statistics"
            yield Finding(where, f"{said} are not those of the train split, {found}; {remedy}")


def _agree(said: Statistics, found: Statistics) -> bool:
    # As float64: of an int64 beyond 2^53 either that or the very integer may be stored.
    same = (float(said.min), float(said.max)) == (float(found.min), float(found.max))
    mean = math.isclose(said.mean, found.mean, rel_tol=TOLERANCE, abs_tol=TOLERANCE * found.std)
    spread = math.isclose(said.std, found.std, rel_tol=TOLERANCE, abs_tol=ROUNDING * abs(found.mean))
    return same and mean and spread
