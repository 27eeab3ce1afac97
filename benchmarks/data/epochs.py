"""Samples/s of shuffled epochs: memcpy, ristune and its peers, interleaved in one run; a Markdown table.

    python -m benchmarks.data.epochs WORK_FOLDER --peers-python PEERS_ENV/bin/python [--rounds 3] [--best]

The peers do not share an environment with ristune; theirs is made once (`--no-deps`, because the list is
complete, and because resolving would bring a second torch):

    python -m venv PEERS_ENV
    PEERS_ENV/bin/pip install torch==2.13.0
    PEERS_ENV/bin/pip install --no-deps -r benchmarks/data/peers/requirements.txt

Workload: 20 000 samples of 29 796 bytes (peers/workload.py), written once by each peer to its own format
without compression, then epochs in shuffled order, batches of 256 as CPU tensors, one process unless the
table says otherwise. After the clock stops, every epoch's ids are checked to be each id once, and its last
batch's values against the generator. What a peer does once on opening (Ray Data: reading everything into its
object store) is `open_s`, outside the rates.

Protocol of a runner; this project's, `peers/ours.py`, runs in the Python of this driver:

    python RUNNER prepare FOLDER --variant V --samples N            writes FOLDER/PEER-V
    python RUNNER run FOLDER --variant V --samples N --epochs E --workers W

Each prints one line of JSON last on stdout. That of `run` has: peer ("ristune" for ours), version, variant,
workers, shuffle (what is shuffled), open_s, rates (samples/s of each epoch), exactly_once, repeated, missing,
bytes_on_disk. A runner built on `workload.main` speaks it already. Lines are kept in
WORK_FOLDER/results.jsonl.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

PEERS = Path(__file__).parent / "peers"
OURS = "benchmarks.data.peers.ours"
OUR_RUNS = [("cached", 0), ("cached-two-ahead", 0), ("cached-one-thread", 0), ("windowed", 0)]

# Runner, then its (variant, workers), the best first.
PEER_RUNS: dict[str, list[tuple[str, int]]] = {
    "litdata": [
        ("packed", 0),
        ("packed-full", 0),
        ("tokens", 0),
        ("fields", 0),
        ("parquet", 0),
        ("packed", 2),
    ],
    "huggingface": [("packed-memory", 0), ("packed", 0), ("fields", 0), ("torch", 0), ("packed", 2)],
    "ray": [("materialized", 0), ("shuffled", 0), ("streaming", 0)],
    "webdataset": [("grouped", 0), ("single", 0), ("grouped", 2)],
    "mds": [("random", 0), ("iterate", 0), ("ndarray", 0), ("iterate", 2)],
}

Record = dict[str, Any]


def call(command: list[str]) -> Record:
    """Runs a command and returns the JSON on its last line; one that fails ends the benchmark."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr[-3000:]}")
    record: Record = json.loads(done.stdout.strip().splitlines()[-1])
    return record


def run_one(name: str, action: str, variant: str, workers: int, args: argparse.Namespace) -> Record:
    """One action of a runner: a peer's in their environment, this project's own in that of this driver."""
    runner = [args.peers_python, str(PEERS / f"run_{name}.py")]
    if name == "ours":
        runner = [sys.executable, "-m", OURS]
    arguments = [action, str(args.folder), "--variant", variant, "--samples", str(args.samples)]
    if action == "run":
        arguments += ["--epochs", str(args.epochs), "--workers", str(workers)]
    return call([*runner, *arguments])


def table(records: list[Record]) -> str:
    """Markdown; first epochs apart from later ones; medians of later epochs over each round's best memcpy."""
    groups: dict[tuple[str, str, int], list[Record]] = {}
    for record in records:
        key = record["peer"], record["variant"], record.get("workers", 0)
        groups.setdefault(key, []).append(record)
    # memcpy's first repeat finds the same memory as its later ones; dropping it harms nothing.
    later = {key: [rate for one in group for rate in one["rates"][1:]] for key, group in groups.items()}
    medians = {key: statistics.median(rates) for key, rates in later.items()}
    one_thread = [record for record in records if record["peer"] == "memcpy" and "MB" in record["variant"]]
    copied = statistics.median(max(record["rates"]) for record in one_thread)
    own = max((value for key, value in medians.items() if key[0] == "ristune"), default=None)
    lines = [
        "| loader | version | variant | workers | shuffle | samples/s: median | min | max | first epoch "
        "| of memcpy | ristune is | each id once | MB on disk |",
        "|" + "---|" * 13,
    ]
    for key, group in groups.items():
        one, rates = group[0], later[key]
        first = statistics.median(record["rates"][0] for record in group)
        checked = "-"
        if "exactly_once" in one:
            repeated, missing = (sum(record[what] for record in group) for what in ("repeated", "missing"))
            exact = all(record["exactly_once"] for record in group)
            checked = "yes" if exact else f"no: {repeated} repeated, {missing} missing"
        size = f"{one['bytes_on_disk'] / 1e6:.1f}" if "bytes_on_disk" in one else "-"
        ratio = f"{own / medians[key]:.1f}x" if own else "-"
        lines.append(
            f"| {key[0]} | {one['version']} | {key[1]} | {key[2]} | {one.get('shuffle', '-')} "
            f"| {medians[key]:,.0f} | {min(rates):,} | {max(rates):,} | {first:,.0f} "
            f"| {medians[key] / copied:.2f} | {ratio} | {checked} | {size} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="work folder, about 12 GB (3 GB with --best); kept")
    parser.add_argument("--peers-python", required=True, help="Python of the peers' environment")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4, help="epochs in each round, two or more")
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--peers", nargs="*", choices=list(PEER_RUNS), default=list(PEER_RUNS))
    parser.add_argument("--reuse", action="store_true", help="keep what an earlier run wrote")
    parser.add_argument("--best", action="store_true", help="only the best variant of each peer")
    args = parser.parse_args()
    if args.epochs < 2:
        parser.error(f"--epochs: got {args.epochs}; first and later epochs are told apart; use 2 or more")
    args.folder.mkdir(parents=True, exist_ok=True)
    runs = [("ours", *run) for run in OUR_RUNS]
    for name in args.peers:
        runs += [(name, *run) for run in PEER_RUNS[name][: 1 if args.best else None]]
    for name, variant in dict.fromkeys((name, variant) for name, variant, _ in runs):
        peer = "ristune" if name == "ours" else name
        if args.reuse and (args.folder / f"{peer}-{variant}").exists():
            continue
        print(f"writing {name} {variant}", file=sys.stderr)
        run_one(name, "prepare", variant, 0, args)
    records: list[Record] = []
    with (args.folder / "results.jsonl").open("w") as results:
        for round_number in range(args.rounds):
            # Another order each round, so that none always follows the same neighbour.
            turn = round_number % len(runs)
            for name, variant, workers in [
                ("memcpy", "1", 0),
                ("memcpy", "2", 0),
                *runs[turn:],
                *runs[:turn],
            ]:
                print(f"round {round_number + 1}: {name} {variant} {workers}", file=sys.stderr)
                if name == "memcpy":
                    memcpy = [sys.executable, "-m", "benchmarks.data.peers.memcpy", "--threads", variant]
                    record = call(memcpy)
                else:
                    record = run_one(name, "run", variant, workers, args)
                records.append(record)
                print(json.dumps(record), file=results, flush=True)
    print(table(records))


if __name__ == "__main__":
    main()
