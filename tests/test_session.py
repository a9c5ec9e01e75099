"""When a call ends before the budget does, how a budget is used up, and the average of weights."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hvisk.train.average import Average
from hvisk.train.budget import learning_rate, share_used
from hvisk.train.checkpoint import State
from hvisk.train.recipe import Recipe
from hvisk.train.session import Session

RECIPE = Recipe(out="x", train=("t",), validation="v", steps=100, warmup=0.1, learning_rate=1.0)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_without_hours_a_session_never_ends() -> None:
    assert not Session().ends_before("step", "measurement", "checkpoint", "push")


def test_a_session_leaves_room_for_the_longest_that_was_seen() -> None:
    clock = Clock()
    session = Session(hours=1, began=0.0, clock=clock)
    session.took("step", 2)
    session.took("checkpoint", 100)
    session.took("checkpoint", 10)  # the disk was slow once, and may be again
    clock.now = 3600 - 1.3 * 102 - 1
    assert not session.ends_before("step", "checkpoint")
    clock.now += 2
    assert session.ends_before("step", "checkpoint")
    assert not session.ends_before("step")


def test_what_was_never_done_is_reckoned_with_but_not_for_more_than_a_share() -> None:
    clock = Clock()
    long, short = Session(hours=10, began=0.0, clock=clock), Session(hours=0.01, began=0.0, clock=clock)
    clock.now = 36_000 - 1.3 * 60 + 1
    assert long.ends_before("checkpoint")
    clock.now = 30
    assert not short.ends_before("checkpoint")


def test_work_is_timed() -> None:
    clock = Clock()
    session = Session(hours=1, began=0.0, clock=clock)
    with session.timed("measurement"):
        clock.now = 7
    assert session.longest == {"measurement": 7}


def test_the_largest_share_of_the_budgets_counts() -> None:
    recipe = dataclasses.replace(RECIPE, minutes=2, epochs=3)
    state = State(step=50, seconds=30, audio_seconds=600)
    assert share_used(recipe, state, 1000) == 0.5
    assert share_used(recipe, dataclasses.replace(state, seconds=90), 1000) == 0.75
    assert share_used(recipe, dataclasses.replace(state, audio_seconds=2700), 1000) == 0.9
    assert share_used(dataclasses.replace(recipe, steps=0, epochs=0), State(step=500)) == 0


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    rates = [learning_rate(RECIPE, step / 100) for step in range(101)]
    assert 0 < rates[0] < 0.05
    assert [rates[5], rates[10], rates[55], rates[100]] == pytest.approx([0.5, 1.0, 0.5, 0.0])


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_the_learning_rate_rises_once_and_falls_once(warmup: float, one: float, other: float) -> None:
    recipe = dataclasses.replace(RECIPE, warmup=warmup)
    low, high = sorted((one, other))
    rates = learning_rate(recipe, low) if low < 1 else 0.0, learning_rate(recipe, high) if high < 1 else 0.0
    assert all(0 <= rate <= 1 for rate in rates)
    if high < warmup:
        assert rates[0] <= rates[1]
    if warmup <= low:
        assert rates[0] >= rates[1]


def test_an_average_follows_its_definition() -> None:
    parameter = nn.Parameter(torch.tensor([1.0, 2.0]))
    average = Average([parameter], 0.5)
    expected = torch.tensor([1.0, 2.0])
    for step in range(20):
        with torch.no_grad():
            parameter += 1
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * parameter.detach()
    torch.testing.assert_close(average.weights[0], expected)


def test_an_average_is_worn_for_a_block_alone() -> None:
    parameter = nn.Parameter(torch.ones(3))
    average = Average([parameter], 0.9)
    with torch.no_grad():
        parameter.zero_()

    def fail() -> None:
        with average.worn():
            assert torch.equal(parameter, torch.ones(3))
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    assert torch.equal(parameter, torch.zeros(3))


def test_an_average_comes_back_from_a_checkpoint_bit_for_bit() -> None:
    parameter = nn.Parameter(torch.randn(5))
    average = Average([parameter], 0.9)
    with torch.no_grad():
        parameter.mul_(3)
    average.update(0)
    with average.worn():
        saved = parameter.detach().clone()  # what the checkpoint's model has
    learnt = [p.clone() for p in average.learnt()]
    fresh = nn.Parameter(saved.clone())
    again = Average([fresh], 0.9)
    again.restore(learnt)
    assert torch.equal(fresh, parameter)
    assert torch.equal(again.weights[0], average.weights[0])
