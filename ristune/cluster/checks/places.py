"""Where a sweep reads and writes: every node must reach it, and see what the others wrote."""

from pathlib import PurePosixPath

from ristune.cluster.asked import Asked
from ristune.cluster.checks.shell import simple_commands
from ristune.cluster.cluster_file import LOCAL, ClusterFile, at
from ristune.cluster.finding import Finding, Judged, error, judged, unknown, warning

BUCKETS = ("s3://", "gs://")
# What a command that mounts a shared file system says.
MOUNTING = ("mount", "fstab")


def places(cluster: ClusterFile, asked: Asked) -> Judged:
    """The dataset and the sweep's output are where all nodes reach them."""
    given = {"data.uri": asked.data_uri, "output": asked.output}
    found, said = [], []
    for path, place in given.items():
        if place is None:
            said.append(f"{path} is not given")
            continue
        wrong = _fault(cluster, path, place)
        if wrong is not None:
            found.append(wrong)
        said.append(f"{path}={place}")
    bucket = at(cluster.document, "metadata", "bucket")
    if isinstance(bucket, str) and _is_elsewhere(asked.output, bucket):
        rule = f"the cluster's nodes are checked for another: metadata.bucket is {bucket}"
        found.append(warning("output", asked.output, rule, "give one below that, or correct the file"))
    if None in given.values() and not found:
        return unknown(f"{', '.join(said)}: give those that the sweep will have")
    return judged(found, f"{', '.join(said)}; whether nodes may write there is for --live to say")


def _fault(cluster: ClusterFile, path: str, place: str) -> Finding | None:
    if place.startswith(BUCKETS):
        return None
    folder = place.removeprefix("file://")
    remedy = f"give {path}=s3://BUCKET/PATH, or the whole path of a folder that all nodes share"
    if not folder.startswith("/"):
        return error(path, place, "it is a folder of each node's own: nodes do not see each other's", remedy)
    # Hosts that are there already have mounts of their own.
    if cluster.provider == LOCAL or _mounted(cluster, folder):
        return None
    rule = "no setup command mounts a shared file system there"
    return warning(path, place, rule, f"{remedy}, and mount it by a setup command")


def _is_elsewhere(output: str | None, bucket: str) -> bool:
    if output is None or not output.startswith(BUCKETS):
        return False
    # What comes after ? is how to get there.
    place, root = (text.partition("?")[0].rstrip("/") for text in (output, bucket))
    return place != root and not place.startswith(f"{root}/")


def _mounted(cluster: ClusterFile, folder: str) -> bool:
    """Whether a command that mounts names the folder, or one above it."""
    above = {str(path) for path in (PurePosixPath(folder), *PurePosixPath(folder).parents)} - {"/"}
    for command in cluster.setup:
        for part in simple_commands(command.text):
            words = part.replace('"', " ").replace("'", " ").split()
            mounts = any(name in word for name in MOUNTING for word in words)
            if mounts and above & {word.rstrip("/") for word in words}:
                return True
    return False
