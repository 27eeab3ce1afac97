from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ristune import trial
from ristune.config import Config
from ristune.errors import InputError
from ristune.sweep.shares import check_resource, rung_levels, share_at, shares, total_epochs
from ristune.training import checkpoint, resume
from ristune.training.record import CLOCKS
from ristune.trial import prepare
from tests.sweep.actors import Actor, MakeActor, values_of

DATA = ("sweep.resource=data", "sweep.first_share=0.1", "sweep.reduction=3")
EPOCHS = 2


def row(record: dict[str, Any], before: int) -> dict[str, Any]:
    """What a record of a share says, counted as a training of that share alone counts."""
    plain = {k: v for k, v in record.items() if k not in (*CLOCKS, "share", "status")}
    return {**plain, "epoch": record["epoch"] - before, "best_epoch": record["best_epoch"] - before}


def plain(toy: Callable[..., Config], dataset: Path, share: float) -> list[dict[str, Any]]:
    config = toy(f"data.uri={dataset}", f"training.epochs={EPOCHS}", f"data.fraction={share}")
    return [row(record.flat(), 0) for record in prepare(config, print).run()]


@pytest.fixture
def sharing(make_actor: MakeActor, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Actor]:
    # A state at the end of each epoch, however short it is.
    monkeypatch.setattr(trial, "KEEPING_SHARE", 1e9)
    return lambda *overrides: make_actor(*DATA, f"training.epochs={EPOCHS}", *overrides)


def test_shares_grow_by_the_reduction_up_to_all(toy: Callable[..., Config]) -> None:
    def of(*overrides: str) -> tuple[float, ...]:
        return shares(toy("sweep.resource=data", *overrides).sweep)

    assert of("sweep.first_share=0.1", "sweep.reduction=3") == (0.1, 0.3, 0.9, 1.0)
    assert of("sweep.first_share=0.25", "sweep.reduction=2") == (0.25, 0.5, 1.0)
    assert of(f"sweep.first_share={1 / 3}", "sweep.reduction=3") == (0.333333333333, 1.0)
    assert of("sweep.first_share=1") == (1.0,)
    assert shares(toy("sweep.first_share=0.1").sweep) == (1.0,)


def test_rungs_are_the_ends_of_the_shares_but_the_last(toy: Callable[..., Config]) -> None:
    config = toy(*DATA).sweep
    assert rung_levels(config, 4) == [4, 8, 12]
    assert total_epochs(config, 4) == 16
    assert [share_at(config, 4, epoch) for epoch in (1, 4, 5, 12, 13, 16)] == [0.1, 0.1, 0.3, 0.9, 1.0, 1.0]


def test_rungs_of_epochs_lie_below_the_last_one(toy: Callable[..., Config]) -> None:
    config = toy("sweep.grace=2", "sweep.reduction=3").sweep
    assert rung_levels(config, 18) == [2, 6]
    assert rung_levels(config, 19) == [2, 6, 18]
    assert rung_levels(config, 2) == []
    assert total_epochs(config, 19) == 19
    assert share_at(config, 19, 7) == 1.0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sweep.resource=time", "sweep.resource: got 'time'; it must be one of epochs, data"),
        ("sweep.first_share=0", "sweep.first_share: got 0.0; it must be in"),
        ("sweep.first_share=1.5", "sweep.first_share: got 1.5; it must be in"),
    ],
)
def test_an_impossible_resource_is_refused(toy: Callable[..., Config], override: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        toy(override)
    assert message in str(error.value)


def test_a_share_that_is_the_resource_can_be_neither_searched_nor_set(toy: Callable[..., Config]) -> None:
    space = {"data.fraction": {"low": 0.1, "high": 1.0}}
    check_resource(toy(space=space))
    check_resource(toy("data.fraction=0.5"))
    check_resource(toy(*DATA, "data.train_limit=100"))
    with pytest.raises(InputError, match="space: got 'data.fraction'; it is what a trial is given more of"):
        check_resource(toy(*DATA, space=space))
    with pytest.raises(InputError, match="data.fraction: got 0.5; it is what a trial is given more of"):
        check_resource(toy(*DATA, "data.fraction=0.5"))


def test_each_share_is_trained_as_that_share_alone_is(
    sharing: Callable[..., Actor], toy: Callable[..., Config], dataset: Path
) -> None:
    results = sharing().run("0000")
    rows = [result["record"] for result in results]
    assert [r["epoch"] for r in rows] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [r["share"] for r in rows] == [0.1, 0.1, 0.3, 0.3, 0.9, 0.9, 1.0, 1.0]
    for number, share in enumerate((0.1, 0.3, 0.9, 1.0)):
        first = number * EPOCHS
        assert [row(r, first) for r in rows[first : first + EPOCHS]] == plain(toy, dataset, share)
    assert [result["done"] for result in results] == [False] * 7 + [True]
    assert [result["status"] for result in results] == ["running"] * 7 + ["complete"]


def test_limits_and_filters_hold_within_a_share(
    sharing: Callable[..., Actor], toy: Callable[..., Config], dataset: Path
) -> None:
    more = ("data.train_limit=200", "data.filter={target: [0, null]}", "training.batch_size=8")
    rows = [result["record"] for result in sharing(*more, "sweep.first_share=0.5").run("0000")]
    config = toy(f"data.uri={dataset}", f"training.epochs={EPOCHS}", "data.fraction=0.5", *more)
    assert [row(r, 0) for r in rows[:EPOCHS]] == [row(r.flat(), 0) for r in prepare(config, print).run()]


def test_in_epochs_the_share_of_the_configuration_is_the_whole(make_actor: MakeActor) -> None:
    results = make_actor("data.fraction=0.5").run("0000")
    assert {result["record"]["share"] for result in results} == {1.0}
    assert len(results) == 3


def test_record_and_checkpoint_agree_after_every_epoch(
    sharing: Callable[..., Actor], toy: Callable[..., Config]
) -> None:
    config = toy(*DATA).sweep
    actor = sharing()
    for result in actor.steps("0000", optimizer__lr=0.05):
        saved = checkpoint.load(actor.folder / "trials" / "0000" / "best").state
        assert (saved["epoch"], saved["objective"]) == (result["best_epoch"], result["objective"])
        assert saved["config"]["data"]["fraction"] == share_at(config, EPOCHS, result["best_epoch"])


class Blind:
    """A trial whose validation is not finite at the first epoch of every share but the first."""

    def __init__(self, trial: Any) -> None:
        self.trainer = trial.trainer
        self.trial = trial
        run, fraction = trial.trainer._validation.run, trial.config.data.fraction

        def validate(network: Any, spread: Any = None) -> dict[str, float]:
            return {**run(network, spread), **({"mse": float("nan")} if fraction > 0.1 else {})}

        trial.trainer._validation.run = validate

    def run(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        yield from self.trial.run(*args, **kwargs)


def test_until_a_share_has_a_finite_validation_the_one_before_stands(
    sharing: Callable[..., Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ristune.sweep import worker

    monkeypatch.setattr(worker, "prepare", lambda config, report: Blind(prepare(config, report)))
    actor = sharing()
    *_, before, last = actor.run("0000")
    assert (last["status"], last["done"], last["epoch"]) == ("diverged", True, 3)
    assert (last["objective"], last["best_epoch"]) == (before["objective"], before["best_epoch"])
    assert last["best_epoch"] <= EPOCHS
    assert last["record"]["share"] == 0.3
    saved = checkpoint.load(actor.folder / "trials" / "0000" / "best").state
    assert (saved["epoch"], saved["objective"]) == (last["best_epoch"], last["objective"])


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 5, 7])
def test_a_trial_that_was_lost_goes_on_in_its_share(sharing: Callable[..., Actor], epochs: int) -> None:
    whole = values_of(sharing().run("0000"))
    first = sharing()
    lost = values_of(first.run("0000", epochs=epochs))
    first.worker.cleanup()
    found = values_of(Actor(first.base, first.folder).run("0000"))
    assert lost == whole[:epochs]
    # An epoch whose record came before its state was kept is trained again, nothing before it.
    again = found[0]["epoch"]
    assert again in (epochs, epochs + 1)
    assert found == whole[again - 1 :]


def test_one_that_has_begun_a_share_does_not_go_back_to_the_one_before(
    sharing: Callable[..., Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = values_of(sharing().run("0000"))
    first = sharing()

    def killed(self: Any) -> None:
        raise KeyboardInterrupt

    first.run("0000", epochs=EPOCHS)
    with monkeypatch.context() as patch:
        patch.setattr("ristune.training.trainer.Trainer._begin", killed)
        with pytest.raises(KeyboardInterrupt):
            first.worker.step()
    first.worker.cleanup()
    state = resume.newest(first.folder / "trials" / "0000", print).state
    assert state["config"]["data"]["fraction"] == 0.3
    assert values_of(Actor(first.base, first.folder).run("0000")) == whole[EPOCHS:]


def test_states_of_an_earlier_share_are_older_whatever_their_epoch(sharing: Callable[..., Actor]) -> None:
    actor = sharing("training.epochs=5")
    actor.run("0000", epochs=7)
    folder = actor.folder / "trials" / "0000"
    kept = sorted(path.name for path in (folder / resume.FOLDER).iterdir())
    assert kept == ["000006-000000000", "000007-000000000"]
    assert resume.newest(folder, print).state["config"]["data"]["fraction"] == 0.3
