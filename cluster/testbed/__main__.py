"""Commands of the test bed: `python -m cluster.testbed up`, from the root of the repository."""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.testbed import bed
from ristune import cli

_EXAMPLES = """\
a session, as root:
  python -m cluster.testbed up                          three hosts: head, worker1, worker2
  eval "$(python -m cluster.testbed env)"               the token, and the file for `ray up`
  ray up -y --no-config-cache $CLUSTER                  the workers join half a minute later
  python -m cluster.testbed exec head ray status
  python -m cluster.testbed cut worker1                 what happens to its trials?
  python -m cluster.testbed mend worker1
  python -m cluster.testbed kill worker2                as a preempted machine ends
  python -m cluster.testbed revive worker2              the head starts Ray on it again
  ray down -y $CLUSTER
  python -m cluster.testbed down                        no process, link or file is left

exit status: 0 done, 1 failed, 2 bad input; of `exec`, the command's own."""


def main(argv: Sequence[str]) -> int:
    """Run a command on a test bed."""
    arguments = _parser().parse_args(argv)
    folder = arguments.folder
    if arguments.command == "up":
        _show(bed.up(folder, arguments.workers))
    elif arguments.command == "down":
        bed.down(folder)
    else:
        return _ask(bed.load(folder), arguments)
    return cli.DONE


def _ask(running: bed.Bed, arguments: argparse.Namespace) -> int:
    """Run a command on a bed that is there."""
    if arguments.command == "exec":
        # Words with blanks stay whole; a single word is the shell's to take apart.
        words = arguments.words
        command = words[0] if len(words) == 1 else " ".join(map(shlex.quote, words))
        return subprocess.run(bed.command_in(running, arguments.host, command)).returncode
    if arguments.command == "status":
        _show(running)
    elif arguments.command == "env":
        for name, value in (running.environment | {"CLUSTER": str(running.cluster_file)}).items():
            print(f"export {name}={shlex.quote(value)}")
    elif arguments.command == "bucket":
        bed.write_cluster_file(running, arguments.uri, arguments.credentials)
    else:
        act = {"cut": bed.cut, "mend": bed.mend, "kill": bed.kill, "revive": bed.revive}
        act[arguments.command](running, arguments.host)
    return cli.DONE


def _show(running: bed.Bed) -> None:
    for name in running.hosts:
        print(f"{name:10} {running.address(name):14} {bed.condition(running, name)}")
    print(f"the machine itself is {running.gateway} to them; for `ray up`: {running.cluster_file}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cluster.testbed",
        description="Hosts of one machine for `ray up`: namespaces with an SSH server each, and a bridge.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, *, host: bool = False) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--folder",
            type=Path,
            default=bed.FOLDER,
            help="of the bed's state (%(default)s); several beds may stand side by side",
        )
        if host:
            command.add_argument("host", metavar="HOST", help="head, worker1, ...")
        return command

    workers = add("up", "start a bed, and write its cluster file")
    workers.add_argument(
        "--workers", type=cli.at_least_one, default=2, help="hosts beside the head (%(default)s)"
    )
    add("down", "take the bed away, also half of one")
    add("status", "show hosts, addresses, and how they are")
    add("env", "print what a shell needs for `ray up`: eval it")
    bucket = add("bucket", "write the cluster file anew, with a bucket")
    bucket.add_argument("uri", metavar="URI", help="s3://NAME/PREFIX?endpoint=http://ADDRESS:PORT")
    bucket.add_argument(
        "--credentials", type=Path, help="file with its keys, in the format of ~/.aws/credentials"
    )
    execute = add("exec", "run a command in a host, whether or not its network works", host=True)
    execute.add_argument("words", metavar="COMMAND", nargs=argparse.REMAINDER)
    add("cut", "cut a host's network", host=True)
    add("mend", "mend a host's network", host=True)
    add("kill", "end a host at once, as a preempted machine ends", host=True)
    add("revive", "start a host that was killed; its home is kept", host=True)
    return parser


if __name__ == "__main__":
    sys.exit(cli.run(main))
