"""What a provider's description of a machine says: memory, disk, spot, security groups."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

GIB = 2**30
# AWS: GiB of memory a virtual core, by the family's letter; the same in all its generations.
AWS_FAMILIES = {"c": 2, "m": 4, "r": 8, "t": 4, "g": 4}
# AWS: virtual cores by size; Nxlarge has 4 N.
AWS_SIZES = {"large": 2, "xlarge": 4}
# AWS: GiB of memory of the smallest machines of family t.
AWS_SMALL = {"nano": 0.5, "micro": 1.0, "small": 2.0, "medium": 4.0}
# GCP: GiB of memory a virtual core, by the middle of the name.
GCP_KINDS = {"standard": 4.0, "highmem": 8.0, "highcpu": 1.0}
# The oldest family has other memory.
GCP_N1 = {"standard": 3.75, "highmem": 6.5, "highcpu": 0.9}


def memory_gib(machine: str | None) -> float | None:
    """Memory of a machine by its name; None where the name does not say.

    Args:
        machine: such as m6i.2xlarge or n2-standard-8.
    """
    small = re.fullmatch(r"t\d[a-z]*\.([a-z]+)", machine or "")
    if small and small[1] in AWS_SMALL:
        return AWS_SMALL[small[1]]
    aws = re.fullmatch(r"([cmrtg])\d[a-z]*\.(?:(\d+)xlarge|(large|xlarge))", machine or "")
    if aws:
        cores = 4 * int(aws[2]) if aws[2] else AWS_SIZES[aws[3]]
        return cores * AWS_FAMILIES[aws[1]]
    gcp = re.fullmatch(r"([a-z]\d[a-z]?)-(standard|highmem|highcpu)-(\d+)", machine or "")
    if gcp:
        kinds = GCP_N1 if gcp[1] == "n1" else GCP_KINDS
        return int(gcp[3]) * kinds[gcp[2]]
    return None


def machine_type(config: Mapping[str, Any]) -> str | None:
    """The provider's name of a machine: AWS's `InstanceType`, GCP's `machineType`."""
    found = config.get("InstanceType") or config.get("machineType")
    # GCP takes a whole URL as well.
    return str(found).rpartition("/")[2] if found else None


def is_spot(config: Mapping[str, Any]) -> bool:
    """Whether the provider may take the machine back: AWS's spot, GCP's spot and preemptible ones."""
    market = config.get("InstanceMarketOptions")
    if isinstance(market, Mapping) and market.get("MarketType") == "spot":
        return True
    # A list of mappings in Ray's own examples, one mapping in Google's interface.
    return any(
        each.get("preemptible") is True or each.get("provisioningModel") == "SPOT"
        for each in _mappings(config.get("scheduling"))
    )


def disk_gb(config: Mapping[str, Any], place: str) -> tuple[float, str] | None:
    """The size of the first disk in GB of 10^9 bytes, and its place; None where the file does not say.

    Args:
        config: the `node_config`.
        place: of it in the file.
    """
    for index, mapping in enumerate(_mappings(config.get("BlockDeviceMappings"))):
        volume = mapping.get("Ebs")
        if isinstance(volume, Mapping) and isinstance(volume.get("VolumeSize"), int):
            return volume["VolumeSize"] * GIB / 1e9, f"{place}.BlockDeviceMappings[{index}].Ebs.VolumeSize"
    for index, disk in enumerate(_mappings(config.get("disks"))):
        made = disk.get("initializeParams")
        # Google's interface takes the number as text too.
        if isinstance(made, Mapping) and str(made.get("diskSizeGb", "")).isdigit():
            return int(made["diskSizeGb"]) * GIB / 1e9, f"{place}.disks[{index}].initializeParams.diskSizeGb"
    return None


def security_groups(config: Mapping[str, Any]) -> tuple[str, ...]:
    """AWS's security groups that a machine is given, by itself or by its network interfaces."""
    own = config.get("SecurityGroupIds") or ()
    groups = [each for port in _mappings(config.get("NetworkInterfaces")) for each in port.get("Groups", ())]
    return tuple(map(str, [*own, *groups]))


def _mappings(node: object) -> Iterator[Mapping[str, Any]]:
    nodes = node if isinstance(node, list) else [node]
    yield from (each for each in nodes if isinstance(each, Mapping))
