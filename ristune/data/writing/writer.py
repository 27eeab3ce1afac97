"""Writing a dataset: shards one by one or side by side, the manifest last."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol, TypeVar

from ristune.data.manifest import (
    MANIFEST,
    PIN,
    SPLITS,
    UNFINISHED,
    Manifest,
    Split,
    Table,
    check_pin,
    parse,
    pin,
)
from ristune.data.shards import encode
from ristune.data.writing.claim import check_ours, sole_writer, take
from ristune.data.writing.ids import SeenIds
from ristune.data.writing.plan import RECORDS, Plan, begin, make_plan, survey
from ristune.data.writing.source import Part, Progress, Source, as_columns
from ristune.data.writing.statistics import summarise
from ristune.data.writing.written import Record, recall_part, write_part
from ristune.storage.access import Storage, open_storage

Result = TypeVar("Result")


class Mapper(Protocol):
    """Runs a function for every part, and gives the results as they come, in any order."""

    def __call__(
        self,
        function: Callable[[Part, Progress | None], Result],
        parts: Sequence[Part],
        progress: Progress | None,
        /,
    ) -> Iterator[Result]:
        """Run it.

        Args:
            function: what to run; it is pickled where several processes share the work.
            parts: what to run it for.
            progress: passed on to the function, or what it counts is passed on to it.
        """


def serial(
    function: Callable[[Part, Progress | None], Result], parts: Sequence[Part], progress: Progress | None
) -> Iterator[Result]:
    """The plain mapper: one part after the other, in this process."""
    for part in parts:
        yield function(part, progress)


def write_dataset(
    uri: str, source: Source, mapper: Mapper = serial, progress: Progress | None = None
) -> Manifest:
    """Write all that a source gives.

    A call that was interrupted is continued by the same call: shards that are finished and whole are kept,
    and the bytes are the same as if it had never been interrupted. A dataset is never overwritten.

    Args:
        uri: the directory to write to: new, empty, or left by an interrupted call.
        source: where the samples come from.
        mapper: what runs the work for every part.
        progress: called with the number of samples whenever so many more are there.

    Returns:
        The manifest as it is stored.

    Raises:
        InputError: the source is refused, the directory cannot be written to, holds finished shards of
            another dataset or something else, another process writes to it, the source gives what it does
            not declare, a value is not finite, or an id occurs twice.
    """
    plan = make_plan(source)
    storage = open_storage(uri)
    storage.ensure_writable()
    with sole_writer(storage):
        recorded = survey(storage, plan)
        if not storage.exists(MANIFEST):
            token = take(storage, plan.value) if recorded else begin(storage, plan)
            _write(storage, source, plan, recorded, token, mapper, progress)
        return _clear_up(storage)


def _write(
    storage: Storage,
    source: Source,
    plan: Plan,
    recorded: Sequence[Part],
    token: str,
    mapper: Mapper,
    progress: Progress | None,
) -> None:
    """Write what is not recorded yet, and the manifest, to a place that is this writer's."""
    storage.remove_temporaries()
    tables = {name: _write_table(storage, source, name) for name in sorted(source.tables())}
    records: dict[Part, Record] = {}
    seen = SeenIds(storage.uri)
    for kept in mapper(partial(recall_part, storage.uri, plan.columns), recorded, None):
        if kept is not None:
            record, ids = kept
            seen.add(record.part.split, ids)
            records[record.part] = record
    missing = [part for part in plan.parts if part not in records]
    for record, ids in mapper(partial(write_part, storage.uri, source, token), missing, progress):
        seen.add(record.part.split, ids)
        records[record.part] = record
    manifest = _manifest(plan, tables, [records[part] for part in plan.parts])
    stored = manifest.encode()
    checked = parse(stored, storage.uri)
    check_ours(storage, token)
    storage.write_atomic(PIN, pin(checked.dataset_id))
    check_ours(storage, token)
    storage.write_atomic(MANIFEST, stored)


def _manifest(plan: Plan, tables: Mapping[str, Table], records: Sequence[Record]) -> Manifest:
    """The manifest of a dataset whose shards are all written; records in the order of the plan."""
    shards = {split: tuple(r.shard for r in records if r.part.split == split) for split in SPLITS}
    train = [record.moments for record in records if record.part.split == "train"]
    return Manifest(
        columns=plan.columns,
        tables=tables,
        generator=plan.generator,
        splits={
            split: Split(of_split, sum(shard.rows for shard in of_split))
            for split, of_split in shards.items()
            if of_split
        },
        statistics={name: summarise(each[name] for each in train) for name in (train[0] if train else ())},
    )


def _clear_up(storage: Storage) -> Manifest:
    """Remove what only an unfinished dataset has; read back what is there."""
    storage.remove_temporaries()
    storage.remove_tree(RECORDS)
    storage.remove_tree(UNFINISHED)
    manifest = parse(storage.read(MANIFEST), storage.uri)
    check_pin(manifest, storage.read(PIN), storage.uri)
    return manifest


def _write_table(storage: Storage, source: Source, name: str) -> Table:
    declared, arrays = source.tables()[name]
    columns = as_columns(declared, f"table {name!r}")
    data, shard = encode(f"tables/{name}.parquet", columns, arrays)
    storage.write_atomic(shard.path, data)
    return Table(shard.path, shard.rows, shard.bytes, shard.sha256, shard.row_groups, columns)
