import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ristune.data.writing.ids import SeenIds
from ristune.errors import InputError

SHARDS = st.lists(
    st.tuples(st.sampled_from(["train", "val"]), st.lists(st.integers(-40, 40), min_size=1, unique=True)),
    max_size=12,
)


@given(SHARDS)
def test_a_shard_is_refused_exactly_when_one_of_its_ids_was_there(shards):
    seen, known = SeenIds("d"), {}
    for split, ids in shards:
        repeats = {other: len(known[other] & set(ids)) for other in known if known[other] & set(ids)}
        array = np.sort(np.array(ids, np.int64))
        if repeats:
            with pytest.raises(InputError) as refused:
                seen.add(split, array)
            assert refused.value.value in repeats.values()
            return
        seen.add(split, array)
        known.setdefault(split, set()).update(ids)
