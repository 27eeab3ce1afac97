from tests.doctor.report import doctor

# The default configuration but for its size.
SMALL = [
    *("task.geometry.rows=6", "task.geometry.columns=6", "task.grid=[3,5,7]"),
    *("task.network.width=8", "task.network.blocks=1", "training.threads=1"),
    *("simulator.snapshots=4", "simulator.channel.antennas=8", "simulator.scene.num_sources=[1,2]"),
    *("simulator.train=256", "simulator.val=64"),
]


def test_the_near_field_passes_every_check(tmp_path, capsys):
    rows = doctor(capsys, [*SMALL, f"data.uri={tmp_path / 'none'}", "task.loss.nmse_blend=0.5"])
    assert {name: row for name, row in rows.items() if row.verdict != "pass"} == {}
    assert "nmse_blend" in rows["truth"].text and "nmse_blend" in rows["loss-terms"].text


def test_a_conjugated_truth_is_found(tmp_path, capsys, monkeypatch):
    """Steering of the loss against steering of the data: the error that cost most."""
    from ristune.nearfield import ideal

    made = ideal.scenes

    def conjugated(*arguments):
        output, scene = made(*arguments)
        return output, {**scene, "factor": scene["factor"].conj().resolve_conj()}

    monkeypatch.setattr(ideal, "scenes", conjugated)
    rows = doctor(capsys, [*SMALL, f"data.uri={tmp_path / 'none'}"], only={"truth"})
    assert rows["truth"].verdict == "FAIL" and "nmse_pred: " in rows["truth"].text


def test_a_weight_of_zero_is_tried_too(tmp_path, capsys):
    """At 1 its term appears: the objective must not."""
    rows = doctor(capsys, [*SMALL, f"data.uri={tmp_path / 'none'}"], only={"objective"})
    assert "the same at two values of task.loss.nmse_pred, task.loss.nmse_blend" in rows["objective"].text
