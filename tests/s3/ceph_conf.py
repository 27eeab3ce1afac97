"""The configuration of a Ceph cluster of one node that keeps its objects in memory."""

from pathlib import Path


def ceph_conf(folder: Path, fsid: str, addresses: str, endpoint: str, memory: int) -> str:
    """The text of ceph.conf.

    Args:
        folder: of keys, logs and sockets.
        fsid: of the cluster.
        addresses: of its monitor.
        endpoint: of radosgw, address and port.
        memory: bytes for objects.
    """
    return f"""
[global]
fsid = {fsid}
mon host = {addresses}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = true
mon allow pool size one = true
mon warn on pool no redundancy = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = {memory}
osd max object name len = 256
osd max object namespace len = 64
mgr initial modules =
keyring = {folder}/keyring
run dir = {folder}/run
admin socket = {folder}/run/$cluster-$name.$pid.asok
pid file = {folder}/run/$name.pid
log file = {folder}/log/$name.log
mon cluster log file = {folder}/log/cluster.log

[mon]
mon data = {folder}/mon

[osd]
osd data = {folder}/osd
keyring = {folder}/osd/keyring

[client.admin]
rgw data = {folder}/rgw
rgw frontends = beast endpoint={endpoint}
debug rgw = 1
log file = {folder}/log/rgw.log
"""
