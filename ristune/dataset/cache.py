"""Command: what this machine keeps of datasets, and letting go of it."""

import sys
import time
from collections.abc import Sequence

from ristune import cli
from ristune.data.entries import Entry, entries, evict
from ristune.data.places import Place, places
from ristune.dataset.console import size
from ristune.errors import InputError

EXAMPLES = """\
  python -m ristune.dataset cache list
  python -m ristune.dataset cache clear                 # all that no process uses
  python -m ristune.dataset cache clear 5bc403          # one dataset, by the start of its id
  python -m ristune.dataset cache list data.cache=/mnt/nvme/cache"""
PURPOSE = """\
List or clear the decoded datasets of this machine. Trials share them: the first one fetches and decodes, the
others attach. They are kept for the next sweep, in shared memory or on disk (data.cache_memory_share,
data.cache_disk_gb), and those that nobody uses make room by themselves."""
ACTIONS = ("list", "clear")
# The digits of an identity that are shown, and the fewest that name one.
SHOWN, FEWEST = 12, 4


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m ristune.dataset cache`."""
    return cli.run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = cli.Parser("dataset cache", PURPOSE, EXAMPLES)
    parser.usage = f"{parser.prog} list|clear [ID ...] [PATH=VALUE ...]"
    arguments = parser.parse_intermixed_args(argv)
    words = [word for word in arguments.overrides if "=" not in word]
    arguments.overrides = [word for word in arguments.overrides if "=" in word]
    config = cli.configure(arguments)
    if arguments.show_config:
        print(cli.show(config.resolved()), end="")
        return cli.DONE
    if not words or words[0] not in ACTIONS or (words[0] == "list" and len(words) > 1):
        rule = "it must be list, or clear and ids of datasets (none: all that are unused)"
        raise InputError("cache", " ".join(words), rule, "see --help for examples")
    where = places(config.data, cli.console().print)
    if words[0] == "list":
        _list(where)
        return cli.DONE
    return _clear(where, words[1:])


def _list(where: Sequence[Place]) -> None:
    console = cli.console()
    for place in where:
        kept = entries(place)
        total = size(sum(entry.bytes for entry in kept))
        console.print(f"{place.path}: {len(kept)} datasets, {total} of {size(place.limit)} ({place.setting})")
        if not kept:
            continue
        # Lines, not a table: an address that is wrapped cannot be copied.
        console.print(f"  {'id':{SHOWN}}  {'size':>9}  {'last used':16}  in use  from")
        for entry in kept:
            used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
            busy = "yes" if entry.busy else "no"
            console.print(
                f"  {entry.dataset_id[:SHOWN]}  {size(entry.bytes):>9}  {used}  {busy:6}  {entry.uri}"
            )


def _clear(where: Sequence[Place], ids: Sequence[str]) -> int:
    of = {entry: place for place in where for entry in entries(place)}
    kept = list(of)
    chosen = [entry for text in ids for entry in _named(text, kept)] if ids else kept
    console = cli.console()
    left = 0
    for entry in chosen:
        label = f"{entry.dataset_id[:SHOWN]} ({size(entry.bytes)}, {entry.uri})"
        if evict(of[entry], entry.path):
            console.print(f"cleared {label}")
        else:
            left += 1
            console.print(f"kept {label}: a process uses it")
    if not chosen:
        console.print("nothing is kept")
    return cli.FAILED if left and ids else cli.DONE


def _named(text: str, kept: Sequence[Entry]) -> list[Entry]:
    found = [entry for entry in kept if entry.dataset_id.startswith(text)]
    if len(text) < FEWEST or not found:
        known = ", ".join(entry.dataset_id[:SHOWN] for entry in kept) or "none"
        rule = f"it must be the first {FEWEST} digits or more of an id; there are {known}"
        raise InputError("ID", text, rule, "see `python -m ristune.dataset cache list`")
    return found


if __name__ == "__main__":
    sys.exit(main())
