import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ristune.data.columns import DTYPES, Column
from ristune.data.layout import PAGE, WIDE, layout, pack, row_width, view
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
    planes = [pack(plane, arrays) for plane in of.planes]
    found = {name: view(planes[n], column, offset) for name, (n, column, offset) in of.places.items()}
    assert sorted(found) == sorted(arrays)
    for name, values in arrays.items():
        np.testing.assert_array_equal(found[name], values, strict=True)
    for plane, packed in zip(of.planes, planes, strict=True):
        assert packed.shape == (rows, plane.width)
        for column, offset in zip(plane.columns, plane.offsets, strict=True):
            assert offset % np.dtype(column.dtype).itemsize == 0
            assert plane.width % np.dtype(column.dtype).itemsize == 0


def test_wide_columns_lie_by_themselves_and_narrow_ones_together():
    columns = [
        *COLUMNS,
        Column("big", "<f4", (WIDE // 4,), "1", "input"),
        Column("odd", "|u1", (1025,), "1", "label"),
    ]
    planes = layout(columns).planes
    assert [len(plane.columns) for plane in planes] == [1, 1, len(COLUMNS)]
    assert [plane.wide for plane in planes] == [True, True, False]


def test_a_wide_column_is_packed_without_a_copy():
    column = Column("big", "<f4", (WIDE,), "1", "input")
    values = np.ones((3, WIDE), np.float32)
    assert np.shares_memory(pack(layout([column]).planes[0], {"big": values}), values)


def test_planes_start_on_pages():
    extents = layout([*COLUMNS, Column("big", "<f4", (WIDE,), "1", "input")]).extents(7)
    assert extents[0] == 0
    assert all(start % PAGE == 0 for start in extents)
    assert extents[1] >= 7 * 4 * WIDE


def test_stored_integers_become_as_narrow_as_declared():
    bits = next(column for column in COLUMNS if column.name == "bits")
    of = layout([bits])
    packed = pack(of.planes[0], {"bits": draw(5)["bits"].astype(bits.stored_dtype)})
    assert view(packed, bits, 0).dtype == np.uint8
    assert row_width(bits) == 1
