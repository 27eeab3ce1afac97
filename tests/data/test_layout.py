import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ristune.data.assembly import spread
from ristune.data.columns import DTYPES, Column
from ristune.data.layout import LINE, WIDE, WORD, is_wide, layout, row_width, view, write_columns
from tests.data.drawing import COLUMNS, draw

COLUMN = st.builds(
    lambda dtype, shape: (dtype, tuple(shape)),
    st.sampled_from(DTYPES),
    st.lists(st.integers(1, 12), max_size=3),
)


@given(st.lists(COLUMN, min_size=1, max_size=8), st.integers(1, 5))
def test_what_is_packed_is_what_is_seen(kinds, rows):
    columns = [Column(f"c{i}", dtype, shape, "1", "input") for i, (dtype, shape) in enumerate(kinds)]
    rng = np.random.default_rng(0)
    arrays = {c.name: rng.integers(0, 100, (rows, *c.shape)).astype(c.dtype) for c in columns}
    of = layout(columns)
    assert of.width % WORD == 0
    packed = np.empty((rows, of.width), np.uint8)
    write_columns(packed, of, arrays)
    assert sorted(of.places) == sorted(arrays)
    taken = np.zeros(of.width, int)
    for name, (column, offset) in of.places.items():
        np.testing.assert_array_equal(view(packed, column, offset), arrays[name], strict=True)
        assert offset % (LINE if is_wide(column) else np.dtype(column.dtype).itemsize) == 0
        taken[offset : offset + row_width(column)] += 1
    assert taken.max() == 1
    assert not any(is_wide(column) for column in columns) or of.width % LINE == 0


def test_wide_columns_come_first_and_narrow_ones_without_gaps():
    columns = [
        *COLUMNS,
        Column("big", "<f4", (WIDE // 4,), "1", "input"),
        Column("odd", "|u1", (WIDE + 1,), "1", "label"),
    ]
    of = layout(columns)
    assert [column.name for column in of.columns[:2]] == ["big", "odd"]
    assert of.offsets[:2] == (0, WIDE)
    narrow = sum(row_width(column) for column in COLUMNS)
    assert of.offsets[2] == 2 * WIDE + LINE
    assert of.offsets[-1] + row_width(of.columns[-1]) == of.offsets[2] + narrow


@pytest.mark.parametrize("cuts", [[5], [1, 2, 3], [12, 24], [7, 31, 33], range(1, 48)])
def test_bytes_are_spread_over_rows_wherever_they_are_cut(cuts):
    data, rows = np.arange(48, dtype=np.uint8), np.zeros((4, 20), np.uint8)
    for first, last in zip([0, *cuts], [*cuts, 48], strict=True):
        spread(rows[:, 3:15], first, data[first:last])
    assert rows[:, 3:15].tobytes() == data.tobytes()
    assert not rows[:, :3].any()
    assert not rows[:, 15:].any()


def test_stored_integers_become_as_narrow_as_declared():
    bits = next(column for column in COLUMNS if column.name == "bits")
    of = layout([bits])
    packed = np.empty((5, of.width), np.uint8)
    drawn = draw(5)["bits"]
    write_columns(packed, of, {"bits": drawn.astype(bits.stored_dtype)})
    np.testing.assert_array_equal(view(packed, bits, 0), drawn.astype(np.uint8), strict=True)
    assert row_width(bits) == 1
