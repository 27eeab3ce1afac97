"""Mistakes in a cluster file: the check that finds each, its verdict, the place it names, and the change."""

from tests.cluster.plant import drop, put, swap

TYPES = "available_node_types"
CHECK = "~/env/bin/python -m ristune.cluster.node_check"
GROUP = {"SecurityGroupIds": ["sg-0"]}
CPUS = {"resources": {"CPU": 8}, "node_config": {"InstanceType": "m6i.2xlarge"} | GROUP, "max_workers": 4}
TOKEN = {"~/.ray/auth_token": "~/.ray/auth_token"}

NAMED = {"container_name": "ristune"}


def opened(permission):
    """A group that lets in the office, and somebody else."""
    ssh = {"FromPort": 22, "ToPort": 22, "IpProtocol": "tcp"}
    office = {"IpRanges": [{"CidrIp": "203.0.113.0/24"}]}
    return {"GroupName": "ristune", "IpPermissions": [ssh | office, ssh | permission]}


# Each: the check, its verdict, the place it names, the mistake.
MISTAKES = [
    ("schema", "FAIL", "idle_timeout", put("idle_timeout", 10)),
    ("schema", "FAIL", "max_workers", put("max_workers", "eight")),
    ("schema", "FAIL", f"{TYPES}.gpu_spot.node_config", drop(TYPES, "gpu_spot", "node_config")),
    ("schema", "FAIL", f"{TYPES}.gpu_spot.resources.GPU", put(TYPES, "gpu_spot", "resources", "GPU", 0.5)),
    ("schema", "FAIL", "head_node_type", put("head_node_type", "haed")),
    ("schema", "FAIL", "provider", put("provider", "type", "asw")),
    ("token", "FAIL", "file_mounts", drop("file_mounts", "~/.ray/auth_token")),
    (
        "token",
        "FAIL",
        "worker_start_ray_commands[1]",
        swap("worker_start_ray_commands", 1, "RAY_AUTH_MODE=token ", ""),
    ),
    (
        "token",
        "FAIL",
        "worker_start_ray_commands[1]",
        swap("worker_start_ray_commands", 1, "RAY_AUTH_MODE=token ", "RAY_AUTH_MODE=token true; "),
    ),
    ("token", "FAIL", "head_start_ray_commands", drop("head_start_ray_commands")),
    (
        "network",
        "FAIL",
        "provider.security_group.IpPermissions[1]",
        put("provider", "security_group", opened({"IpRanges": [{"CidrIp": "0.0.0.0/0"}]})),
    ),
    (
        "network",
        "FAIL",
        "provider.security_group.IpPermissions[1]",
        put("provider", "security_group", opened({"Ipv6Ranges": [{"CidrIpv6": "::/0"}]})),
    ),
    ("network", "warn", "provider.security_group", drop(TYPES, "head", "node_config", "SecurityGroupIds")),
    (
        "autoscaler",
        "FAIL",
        "head_start_ray_commands[1]",
        swap("head_start_ray_commands", 1, "RAY_enable_autoscaler_v2=0 ", ""),
    ),
    ("workers", "warn", f"{TYPES}.gpu_spot.min_workers", put(TYPES, "gpu_spot", "min_workers", 2)),
    ("workers", "warn", f"{TYPES}.gpu_spot.max_workers", put(TYPES, "gpu_spot", "max_workers", 50)),
    ("workers", "warn", f"{TYPES}.head.max_workers", put(TYPES, "head", "max_workers", 1)),
    ("workers", "warn", "max_workers", put("max_workers", 100)),
    ("spot-fallback", "FAIL", f"{TYPES}.gpu_spot", drop(TYPES, "gpu_on_demand")),
    ("spot-fallback", "FAIL", f"{TYPES}.gpu_spot", put(TYPES, "gpu_on_demand", "max_workers", 0)),
    ("spot-fallback", "FAIL", f"{TYPES}.gpu_spot", put(TYPES, "gpu_on_demand", "resources", "CPU", 4)),
    (
        "spot-fallback",
        "FAIL",
        f"{TYPES}.head.node_config",
        put(TYPES, "head", "node_config", "InstanceMarketOptions", {"MarketType": "spot"}),
    ),
    ("idle-timeout", "warn", "idle_timeout_minutes", drop("idle_timeout_minutes")),
    ("idle-timeout", "warn", "idle_timeout_minutes", put("idle_timeout_minutes", 600)),
    ("idle-timeout", "warn", "idle_timeout_minutes", put("idle_timeout_minutes", 0.5)),
    ("head", "FAIL", f"{TYPES}.head.resources", put(TYPES, "head", "resources", {"CPU": 8})),
    ("head", "FAIL", f"{TYPES}.head.resources", put(TYPES, "head", "resources", {})),
    (
        "head",
        "FAIL",
        f"{TYPES}.head.node_config",
        put(TYPES, "head", "node_config", "InstanceType", "t3.small"),
    ),
    ("concurrency", "FAIL", f"{TYPES}.cpu.resources", put(TYPES, "cpu", CPUS)),
    ("versions", "FAIL", "setup_commands[1]", swap("setup_commands", 1, "3.11", "3.12")),
    (
        "versions",
        "FAIL",
        "setup_commands[2]",
        swap("setup_commands", 2, "--constraint ~/ristune/constraints.txt", "'ray[tune]==2.9.3'"),
    ),
    (
        "versions",
        "FAIL",
        "setup_commands",
        swap("setup_commands", 2, "--constraint ~/ristune/constraints.txt ", ""),
    ),
    (
        "versions",
        "FAIL",
        "setup_commands[2]",
        put("file_mounts", "~/ristune/constraints.txt", "tests/cluster/files/old/constraints.txt"),
    ),
    ("versions", "warn", "setup_commands", swap("setup_commands", 1, "--python 3.11 ", "")),
    ("versions", "FAIL", "docker.image", put("docker", {"image": "rayproject/ray:2.9.3-py311-gpu"} | NAMED)),
    ("versions", "warn", "docker.image", put("docker", {"image": "ghcr.io/me/ristune:latest"} | NAMED)),
    ("code", "FAIL", "file_mounts[~/notes]", put("file_mounts", "~/notes", "nowhere/at/all")),
    ("code", "FAIL", "file_mounts", drop("file_mounts", "~/ristune/pyproject.toml")),
    ("code", "FAIL", "file_mounts[~/ristune/configs]", drop("file_mounts", "~/ristune/configs")),
    ("code", "warn", "rsync_exclude", put("file_mounts", TOKEN | {"~/ristune": "."})),
    (
        "node-check",
        "FAIL",
        "worker_setup_commands[0]",
        swap("worker_setup_commands", 0, " --gpu", ""),
    ),
    ("node-check", "FAIL", "worker_setup_commands", drop("worker_setup_commands")),
    ("node-check", "FAIL", "head_setup_commands[0]", put("head_setup_commands", 0, f"{CHECK} || true")),
    (
        "node-check",
        "warn",
        "worker_setup_commands[1]",
        put("worker_setup_commands", [f"{CHECK} --gpu", "pip install more"]),
    ),
    (
        "node-check",
        "FAIL",
        f"{TYPES}.gpu_spot.worker_setup_commands",
        put(TYPES, "gpu_spot", "worker_setup_commands", ["true"]),
    ),
]

# With hosts that are there already: the check, the place, the change.
ON_PREMISES = [
    (
        "autoscaler",
        "head_start_ray_commands[1]",
        swap("head_start_ray_commands", 1, "RAY_enable_autoscaler_v2=0 ", ""),
    ),
    ("schema", "provider", drop("provider", "worker_ips")),
    ("node-check", "worker_setup_commands", drop("worker_setup_commands")),
]
