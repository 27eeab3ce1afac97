import errno
import os
import re
from pathlib import Path

import numpy as np
import pytest

from ristune.data import huge
from ristune.data.huge import Collapsed, huge_page, mapped

PAGE = huge_page() or 2**21
SHARED = Path("/dev/shm")


@pytest.fixture(params=["disk", "shared memory"])
def file(request, tmp_path):
    """A function that makes a file of some bytes and opens it."""
    made = []
    folder = tmp_path if request.param == "disk" else SHARED
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")

    def make(data):
        path = folder / f"ristune-test-{os.getpid()}-{len(made)}"
        path.write_bytes(bytes(data))
        made.append((path, os.open(path, os.O_RDWR)))
        return made[-1][1]

    yield make
    for path, descriptor in made:
        os.close(descriptor)
        path.unlink()


def drawn(size, seed=0):
    return np.random.default_rng(seed).integers(1, 256, size, dtype=np.uint8)


@pytest.mark.parametrize("size", [1, 4096, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE + 5000])
def test_a_mapping_is_the_file_and_what_is_written_to_it_stays_here(file, size):
    data = drawn(size)
    descriptor = file(data)
    memory = mapped(descriptor, size)
    assert np.array_equal(memory, data)
    assert size < PAGE or not huge_page() or memory.ctypes.data % PAGE == 0
    memory[:] = 0
    assert np.array_equal(mapped(descriptor, size), data)


def test_a_mapping_goes_with_the_last_of_its_views(file):
    descriptor = file(drawn(2 * PAGE))

    def there():
        return len(re.findall(r"ristune-test-", Path("/proc/self/maps").read_text()))

    before = there()
    view = mapped(descriptor, 2 * PAGE)[7:].reshape(-1)[3:]
    assert there() == before + 1
    del view
    assert there() == before


@pytest.mark.parametrize(
    "spans",
    [
        [(0, 4 * PAGE + 1000)],
        [(100, 4 * PAGE)],
        [(PAGE, 2 * PAGE), (3 * PAGE - 1, 4 * PAGE + 1)],
        [(10, PAGE - 10)],
        [],
    ],
)
def test_what_is_not_to_be_written_is_kept_and_what_is_written_is_right(file, spans):
    size = 4 * PAGE + 1000
    before, after = drawn(size), drawn(size, 1)
    descriptor = file(before)
    pages = Collapsed(descriptor, size, spans)
    expected = before.copy()
    for first, last in spans:
        for start in range(first, last, 300_000):
            end = min(start + 300_000, last)
            place = pages.prepared(start, end)
            if place is None:
                assert not pages.holds(after[start:end])
                os.pwrite(descriptor, after[start:end].tobytes(), start)
            else:
                assert pages.holds(place)
                place[:] = after[start:end]
        expected[first:last] = after[first:last]
    assert np.array_equal(mapped(descriptor, size), expected)


def huge_pages_of_shared_memory(address):
    """The bytes that are mapped by huge pages of shared memory, of the mapping at an address."""
    about = Path("/proc/self/smaps").read_text().split(f"{address:x}-", 1)[1]
    return int(re.search(r"ShmemPmdMapped: +(\d+) kB", about)[1]) * 1024


def test_shared_memory_has_huge_pages_where_the_system_can_make_them(file):
    if not huge_page() or tuple(map(int, os.uname().release.split(".")[:2])) < (6, 1):
        pytest.skip("this system makes no huge pages of shared memory")
    size = 3 * PAGE + 4096
    descriptor = file(b"")
    os.ftruncate(descriptor, size)
    if "shm" not in os.readlink(f"/proc/self/fd/{descriptor}"):
        pytest.skip("a disk has pages of its own choice")
    pages = Collapsed(descriptor, size, [(0, size)])
    assert pages.prepared(0, size) is None
    assert pages.prepared(PAGE, 3 * PAGE).nbytes == 2 * PAGE
    memory = mapped(descriptor, size)
    assert not memory[: 3 * PAGE : 4096].any()
    assert huge_pages_of_shared_memory(memory.ctypes.data) == 3 * PAGE
    # Nothing beyond what is written takes room.
    assert os.fstat(descriptor).st_blocks * 512 == 3 * PAGE


def test_without_huge_pages_everything_is_as_it_was(file, monkeypatch, tmp_path):
    data = drawn(3 * PAGE)
    descriptor = file(data)
    monkeypatch.setattr(huge, "PAGE_SIZE", tmp_path / "none")
    assert huge_page() == 0
    assert Collapsed(descriptor, 3 * PAGE, [(0, 3 * PAGE)]).prepared(0, 3 * PAGE) is None
    assert np.array_equal(mapped(descriptor, 3 * PAGE), data)


@pytest.mark.skipif(not huge_page(), reason="this system has no huge pages")
def test_a_kernel_that_refuses_is_asked_once(file, monkeypatch):
    asked = []
    monkeypatch.setattr(huge, "advise", lambda memory, advice: asked.append(advice) or 22)
    descriptor = file(drawn(3 * PAGE))
    pages = Collapsed(descriptor, 3 * PAGE, [(0, 3 * PAGE)])
    asked.clear()
    assert pages.prepared(0, 3 * PAGE) is None
    assert asked == [huge.MADV_COLLAPSE]


@pytest.mark.skipif(not huge_page(), reason="this system has no huge pages")
def test_a_file_that_cannot_be_shared_is_written_otherwise(file, monkeypatch):
    def refused(*arguments):
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr(huge, "map_over", refused)
    pages = Collapsed(file(drawn(3 * PAGE)), 3 * PAGE, [(0, 3 * PAGE)])
    assert pages.prepared(0, 3 * PAGE) is None
    assert not pages.holds(drawn(PAGE))


def test_a_file_larger_than_the_memory_can_be_mapped(tmp_path):
    size = 4 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with (tmp_path / "large").open("w+b") as sparse:
        try:
            sparse.truncate(size)
        except OSError as error:
            pytest.skip(f"this disk has no sparse file of {size} bytes ({error.strerror})")
        assert mapped(sparse.fileno(), size)[-1] == 0


def test_a_file_that_cannot_be_mapped_is_an_error(tmp_path):
    path = tmp_path / "write-only"
    path.write_bytes(bytes(2 * PAGE))
    descriptor = os.open(path, os.O_WRONLY)
    with pytest.raises(OSError, match="Permission denied"):
        mapped(descriptor, 2 * PAGE)
    os.close(descriptor)
