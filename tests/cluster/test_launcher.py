import pytest

from ristune.cluster.launcher import read_cluster
from ristune.errors import InputError
from tests.cluster.files import cloud, hosts, write


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text", "with a provider"),
        (cloud(idle_timeout=3), "idle_timeout"),
        ({**hosts(), "provider": {"type": "local"}}, "it must be a cluster file of `ray up`"),
    ],
)
def test_a_file_that_ray_would_refuse_is_refused_before_anything_is_started(
    tmp_path, content, message, capsys
):
    with pytest.raises(InputError, match=f"--cluster: .*{message}"):
        read_cluster(write(tmp_path, content))
    assert capsys.readouterr().out == ""


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_cluster(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("start", "python"),
    [
        ("RAY_AUTH_MODE=token ~/env/bin/ray start --head", "~/env/bin/python3"),
        ("ulimit -n 65536; ray start --head", "python3"),
    ],
)
def test_jobs_run_by_the_python_beside_the_ray_that_starts_the_head(tmp_path, start, python):
    assert read_cluster(write(tmp_path, hosts(head=start))).python == python


def test_the_job_servers_port_is_the_one_that_the_head_is_started_with(tmp_path):
    assert read_cluster(write(tmp_path, hosts())).dashboard_port == 8265
    moved = hosts(head="ray start --head --dashboard-port=9000")
    assert read_cluster(write(tmp_path, moved)).dashboard_port == 9000


def test_the_token_is_the_one_that_is_shipped_to_the_nodes(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another")
    token = tmp_path / "token"
    cluster = read_cluster(write(tmp_path, hosts(file_mounts={"~/.ray/auth_token": str(token)})))
    with pytest.raises(InputError, match="ray get-auth-token --generate"):
        _ = cluster.token
    token.write_text("secret\n")
    assert cluster.token == "secret"


def test_without_a_shipped_token_it_is_the_users_own(tmp_path, monkeypatch):
    cluster = read_cluster(write(tmp_path, hosts()))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert cluster.token is None
    (tmp_path / "token").write_text("mine")
    assert cluster.token == "mine"
