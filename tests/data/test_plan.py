import pytest

from ristune.data.writing.plan import first_difference


@pytest.mark.parametrize(
    ("wanted", "stored", "difference"),
    [
        ({"a": 1, "b": {"c": 2}}, {"b": {"c": 2}, "a": 1.0}, ""),
        ({"a": (1, (2, 3))}, {"a": [1, [2, 3]]}, ""),
        ({1: "x"}, {"1": "x"}, ""),
        ({"a": [1]}, {"a": 1}, "a: 1 there, [1] asked"),
        ({"a": ["x", "y"]}, {"a": "xy"}, "a: 'xy' there, ['x', 'y'] asked"),
        ({"a": None}, {}, "a: nothing there, None asked"),
        ({}, {"a": None}, "a: None there, nothing asked"),
        ({"a": True}, {"a": 1}, "a: 1 there, True asked"),
        ({"a": [1, True]}, {"a": [1, 1]}, "a: [1, 1] there, [1, True] asked"),
        ({"a": [1, 2]}, {"a": [1, 2, 3]}, "a: [1, 2, 3] there, [1, 2] asked"),
        ({"a": [{"b": None}]}, {"a": [{}]}, "a: [{}] there, [{'b': None}] asked"),
        ({"a": {"b": 1}}, {"a": 1}, "a: 1 there, {'b': 1} asked"),
        ({"a": {"b": [1]}}, {"a": {"b": [2]}}, "a.b: [2] there, [1] asked"),
    ],
)
def test_values_are_compared_as_json(wanted, stored, difference):
    assert first_difference(wanted, stored) == difference
