"""What the nodes run: versions, the project's code, and the check that ends their setup."""

import re
from collections.abc import Iterator, Sequence

from ristune.cluster.asked import CONSTRAINTS, PROJECT, Asked, is_token
from ristune.cluster.checks.shell import matches, simple_commands
from ristune.cluster.cluster_file import ClusterFile, Command
from ristune.cluster.finding import Finding, Judged, error, judged, warning

NODE_CHECK = f"{PROJECT}.cluster.node_check"
# Folders of the project that are large, and of no use on a node.
LEFT_HERE = ("data", "runs", ".venv")
RAY = (r"\bray(?:\[[^\]]*\])?\s*==\s*(\d[\w.]*)", r"\bray-(\d+\.\d+[\w.]*)-cp")
RAY_IMAGE = r"(?:^|/)ray(?:-ml)?:(\d+\.\d+\.\d+)"
# After `--python`, as conda's `python=`, as an interpreter's name, as the tag of a wheel.
PYTHON = (
    r"--python[= ](?:python)?(\d+\.\d+)",
    r"\bpython==?(\d+\.\d+)",
    r"\bpython(\d+\.\d+)\b",
    r"-cp(3)(\d+)-",
)
PYTHON_IMAGE = r"-py(3)(\d+)\b"
CONSTRAINED = r"(?:--constraints?|-c)[= ](\S+)"


def versions(cluster: ClusterFile, asked: Asked) -> Judged:
    """The nodes get the Ray and the Python of this machine."""
    found: list[Finding] = []
    rays = [*_found(RAY, cluster.setup), *_found((RAY_IMAGE,), cluster.images), *_pinned(cluster, asked)]
    pythons = [*_found(PYTHON, cluster.setup), *_found((PYTHON_IMAGE,), cluster.images)]
    for what, here, there in (("Ray", asked.ray, rays), ("Python", asked.python, pythons)):
        for place, version in there:
            if _minor(version) != here if what == "Python" else version != here:
                rule = f"driver and nodes must run the same {what}; here it is {here}"
                remedy = f"install {what} {here} there, or {what} {version} here"
                found.append(error(place, f"{what} {version}", rule, remedy))
    for image in cluster.images:
        if not re.search(r"(:(?!latest$)[\w.-]+|@sha256:\w+)$", image.text):
            rule = "an image without a fixed tag is another one tomorrow"
            found.append(warning(image.place, image.text, rule, "give the tag of a version"))
    if not cluster.images:
        place = "setup_commands"
        # A file of constraints that is not shipped is for another check to say.
        if not rays and not any(matches(CONSTRAINED, cluster.setup)):
            rule = "nothing says which Ray the nodes get; driver and nodes must run the same"
            remedy = f"install with --constraint {CONSTRAINTS}, or ray=={asked.ray}"
            found.append(error(place, None, rule, remedy))
        if not pythons:
            rule = f"nothing says which Python the nodes get; here it is {asked.python}"
            remedy = f"make their environment with --python {asked.python}"
            found.append(warning(place, None, rule, remedy))
    given = [f"Ray {asked.ray}"] * bool(rays) + [f"Python {asked.python}"] * bool(pythons)
    said = " and ".join(given) or "what the image holds is for its node check to say"
    return judged(found, said)


def code(cluster: ClusterFile, asked: Asked) -> Judged:
    """The project is shipped to every node, without what is large there."""
    found: list[Finding] = []
    for far, near in asked.shipped.missing.items():
        rule = "it does not exist here: `ray up` would stop at it, with the head already running"
        found.append(error(f"file_mounts[{far}]", near, rule, "correct the path, or run from its folder"))
    project, whole = asked.shipped.project, asked.shipped.whole
    if project is None:
        # An installation by name is not one of a folder.
        by_name = matches(rf"pip install\b.*\s{PROJECT}(?:==\S+|\[\S+)?(?:\s|$)", cluster.setup)
        if any(by_name) or cluster.images:
            return judged(found, "installed by name, or in the image")
        rule = f"no mount is the folder of {PROJECT}, and no setup command installs it: nodes have no code"
        value = ", ".join(cluster.file_mounts.values()) or None
        return judged([error("file_mounts", value, rule, f'add "~/{PROJECT}": "."'), *found], "")
    for part in asked.shipped.lacking:
        rule = f"an installation of {PROJECT} needs it"
        found.append(error(f"file_mounts[{project}/{part}]", None, rule, f"mount {part} there"))
    left_out = {_plain(pattern) for pattern in (*cluster.excluded, *asked.shipped.ignored)}
    kept = [name for name in LEFT_HERE if name not in left_out]
    if kept and whole:
        folders = ", ".join(f"{name}/" for name in kept)
        rule = f"{folders} would be copied to every node"
        found.append(warning("rsync_exclude", ", ".join(cluster.excluded) or None, rule, f"add {folders}"))
    others = [near for near in asked.shipped.later if not is_token(near)]
    later = f"; not here yet: {', '.join(others)}" if others else ""
    return judged(found, f"{project} on every node, without {', '.join(LEFT_HERE)}{later}")


def node_check(cluster: ClusterFile, asked: Asked) -> Judged:
    """The setup of every node ends in a check that can fail."""
    lists: dict[str, Sequence[Command]] = {"head_setup_commands": cluster.head_setup}
    for worker in cluster.workers:
        lists[_place(cluster.worker_setup[worker.name], worker.place)] = cluster.worker_setup[worker.name]
    without = [place for place, commands in lists.items() if not _checks(commands)]
    found: dict[str, Finding] = {}
    for place in ["setup_commands"] if len(without) == len(lists) else without:
        rule = f"no command runs {NODE_CHECK}: a node without GPU or bucket would join all the same"
        remedy = f"end it in `python -m {NODE_CHECK}`"
        found[place] = error(place, None, rule, remedy)
    for commands in lists.values():
        for command in _checks(commands):
            if re.search(rf"{re.escape(NODE_CHECK)}[^&|;]*(\|\||;|&\s*$|\|)", command.text):
                rule = "the check's failure must be the node's: what follows it hides that"
                found[command.place] = error(command.place, command.text, rule, "let the command end there")
        if _checks(commands) and _checks(commands)[-1] != commands[-1]:
            rule = f"the check must come last: what comes after {NODE_CHECK} is not checked"
            found[commands[-1].place] = warning(
                commands[-1].place, commands[-1].text, rule, "move it before the check"
            )
    for worker in cluster.workers:
        for command in _checks(cluster.worker_setup[worker.name]) if worker.gpus else ():
            if not re.search(r"\s--gpu\b", command.text):
                rule = f"{worker.name} has GPUs: without --gpu none is tried"
                found[command.place] = error(command.place, command.text, rule, "add --gpu")
    return judged(list(found.values()), f"the setup of every node ends in {NODE_CHECK}")


def _found(patterns: Sequence[str], commands: Sequence[Command]) -> Iterator[tuple[str, str]]:
    """Places and versions."""
    for pattern in patterns:
        for command, match in matches(pattern, commands):
            yield command.place, ".".join(match.groups())


def _pinned(cluster: ClusterFile, asked: Asked) -> Iterator[tuple[str, str]]:
    """Ray's version in the constraints that are shipped, where a command installs by them."""
    for command, match in matches(CONSTRAINED, cluster.setup):
        if match[1] in asked.shipped.pins:
            yield command.place, asked.shipped.pins[match[1]]


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _plain(pattern: str) -> str:
    """A pattern of rsync's or git's for a folder, without what does not change what it means here."""
    return pattern.removeprefix("./").removesuffix("**").removesuffix("*").strip("/")


def _checks(commands: Sequence[Command]) -> list[Command]:
    return [
        command for command in commands if any(NODE_CHECK in part for part in simple_commands(command.text))
    ]


def _place(commands: Sequence[Command], of_type: str) -> str:
    """Where the setup commands of a type are given: its own, or those of all workers."""
    own = any(command.place.startswith(f"{of_type}.") for command in commands)
    return f"{of_type}.worker_setup_commands" if own else "worker_setup_commands"
