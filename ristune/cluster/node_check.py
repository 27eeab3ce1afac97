"""Whether a node can run trials: `python -m ristune.cluster.node_check --gpu --bucket s3://bucket`.

The last setup command of every node: what is missing ends the setup, and not the first trial.
"""

import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import yaml

from ristune.cli import DONE, Parser, console, run
from ristune.errors import InputError
from ristune.storage.access import open_storage

EXAMPLES = """  python -m ristune.cluster.node_check --bucket s3://my-bucket
  python -m ristune.cluster.node_check --gpu --cluster ~/ray_bootstrap_config.yaml"""
# What a driver that hangs may take.
DRIVER_SECONDS = 60.0
DRIVER = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")


def main(argv: Sequence[str]) -> int:
    """Check what was asked for, one line each, until something is missing."""
    parser = Parser("cluster.node_check", "Whether this node can run trials.", EXAMPLES, configured=False)
    parser.add_argument(
        "--gpu", action="store_true", help="it must have GPUs, and torch must compute on them"
    )
    parser.add_argument("--bucket", metavar="URI", help="it must read and write there")
    parser.add_argument(
        "--cluster", type=Path, metavar="FILE", help="take the bucket of this cluster file: metadata.bucket"
    )
    arguments = parser.parse_args(argv)
    bucket = arguments.bucket
    if bucket is None and arguments.cluster is not None:
        bucket = bucket_of(arguments.cluster)
    if not arguments.gpu and bucket is None:
        parser.error("nothing to check; give --gpu, --bucket or --cluster")
    out = console()
    if arguments.gpu:
        for line in gpus():
            out.print(f"gpu     {line}")
    if bucket is not None:
        read_and_write(bucket)
        out.print(f"bucket  {open_storage(bucket, '--bucket').uri} is read and written")
    return DONE


def bucket_of(path: Path) -> str:
    """The bucket that a cluster file names.

    Raises:
        InputError: the file cannot be read, or names none.
    """
    try:
        document = yaml.safe_load(path.expanduser().read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = f"it must be a cluster file ({type(error).__name__})"
        raise InputError("--cluster", str(path), reason, "give the file that `ray up` was given") from None
    metadata = document.get("metadata") if isinstance(document, dict) else None
    found = metadata.get("bucket") if isinstance(metadata, dict) else None
    if not isinstance(found, str):
        rule = "it must be the URI of a bucket"
        raise InputError(f"{path}: metadata.bucket", found, rule, "set it at the top of the cluster file")
    return found


def gpus() -> list[str]:
    """This machine's GPUs, after driver, CUDA and torch were tried on each.

    Raises:
        InputError: one of them is missing or does not work.
    """
    driver = _driver()
    # Loading it takes seconds, which a node without a driver does not need.
    import torch

    built = torch.version.cuda
    if built is None:
        rule = "torch must be built for CUDA"
        raise InputError(
            "torch", torch.__version__, rule, "install it by constraints.txt from PyPI, on Linux"
        )
    if torch.cuda.device_count() != len(driver):
        rule = f"torch must see the {len(driver)} GPUs of the driver, and sees {torch.cuda.device_count()}"
        remedy = f"take an image with a driver for CUDA {built} or newer, and unset CUDA_VISIBLE_DEVICES"
        raise InputError("torch", f"{torch.__version__} for CUDA {built}", f"{rule} ({driver[0]})", remedy)
    for index, name in enumerate(driver):
        try:
            total = float(torch.ones(256, 256, device=f"cuda:{index}").square().sum())
        except RuntimeError as error:
            said = str(error).splitlines()[0]
            remedy = "replace the node; if all are so, take an image with a newer driver"
            raise InputError(f"cuda:{index}", name, f"it must compute: {said}", remedy) from None
        if total != 256 * 256:
            raise InputError(f"cuda:{index}", total, "it must compute 65536", "replace the node")
    return [f"{name}, torch {torch.__version__} for CUDA {built}" for name in driver]


def _driver() -> list[str]:
    """Name and driver's version of each GPU, as NVIDIA's own tool tells them."""
    rule = "NVIDIA's driver must be installed and loaded"
    remedy = "take an image with the driver, and a machine with a GPU"
    try:
        done = subprocess.run(DRIVER, capture_output=True, text=True, timeout=DRIVER_SECONDS, check=False)
    except FileNotFoundError:
        raise InputError(DRIVER[0], "not found", rule, remedy) from None
    except subprocess.TimeoutExpired:
        rule = f"NVIDIA's driver must answer within {DRIVER_SECONDS:g} s"
        raise InputError(DRIVER[0], "no answer", rule, "restart or replace the node") from None
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if done.returncode != 0 or not lines:
        said = (done.stderr or done.stdout).strip() or f"exit status {done.returncode}"
        raise InputError(DRIVER[0], said, rule, remedy)
    return lines


def read_and_write(uri: str) -> None:
    """Write an object, read it back and remove it.

    Raises:
        InputError: one of them is refused, or another content comes back.
    """
    storage = open_storage(uri, "--bucket")
    # Many nodes check at once: each has an object of its own.
    path = f".node-check/{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
    content = uuid4().bytes
    storage.write_atomic(path, content)
    found = storage.read(path)
    storage.remove_tree(path)
    if found != content:
        rule = "a bucket must give back what was written"
        raise InputError(uri, f"{len(found)} other bytes", rule, "check what lies between this node and it")


if __name__ == "__main__":
    raise SystemExit(run(main))
