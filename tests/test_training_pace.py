"""The estimate of training's time."""

import pytest

from stylenat.training.pace import COUNTED, WARM_UP, Pace, words


def said(until: int, total: int | None, first: int = 0) -> dict[int, str]:
    """What is said after which iteration, at 4 iterations a second after slow first ones."""
    now = [0.0]
    pace = Pace(until, total, lambda: now[0])
    found = {}
    for step in range(first + 1, until + 1):
        now[0] += 5.0 if step - first <= WARM_UP else 0.25
        if sentence := pace.estimate(step):
            found[step] = sentence
    return found


def test_the_time_that_training_takes_is_said_once_without_its_first_iterations():
    step = WARM_UP + COUNTED
    assert said(step + 400, 2000) == {
        step: "4 iterations/s: this segment ends in about 1 min 40 s, and the run's 2,000 "
        "iterations take about 8 min 20 s here, evaluation not counted"
    }


def test_a_segment_in_the_middle_counts_from_where_it_started():
    step = 600 + WARM_UP + COUNTED
    assert said(step + 40, None, first=600) == {
        step: "4 iterations/s: this segment ends in about 10 s"
    }


def test_nothing_is_said_when_nothing_is_left():
    assert said(WARM_UP + COUNTED, 2000) == {}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (9.6, "10 s"),
        (280, "4 min 40 s"),
        (119.7, "2 min 0 s"),
        (25500, "7 h 5 min"),
        (20 * 86400 + 7200, "20 d 2 h"),
    ],
)
def test_durations_have_two_units(seconds, text):
    assert words(seconds) == text
