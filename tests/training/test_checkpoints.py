import pytest

from itercli.engine.checked import read_document, write_document
from itercli.training.checkpoints import MARKER, REQUIRED, Checkpoints


def write(folder, text="x"):
    for name in REQUIRED:
        (folder / name).write_text(text)


@pytest.fixture
def store(tmp_path):
    return Checkpoints(tmp_path / "checkpoints", "job")


def test_newest_two_are_kept(store):
    for step in (2, 9, 10):
        store.save(step, write)
    assert store.newest().name == "step-10"
    assert sorted(p.name for p in store.folder.iterdir()) == ["step-10", "step-9"]


def test_nothing_saved(store):
    assert store.newest() is None


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_missing_file_does_not_count(store, name):
    store.save(1, write)
    (store.save(2, write) / name).unlink()
    assert store.newest().name == "step-1"


def test_flipped_byte_does_not_count(store):
    store.save(1, write)
    (store.save(2, write) / "optimizer.pt").write_text("y")
    assert store.newest().name == "step-1"


def test_missing_or_torn_marker_does_not_count(store):
    (store.save(1, write) / MARKER).unlink()
    assert store.newest() is None
    path = store.save(2, write)
    (path / MARKER).write_text((path / MARKER).read_text()[:-20])
    assert store.newest() is None


def test_marker_that_does_not_list_a_needed_file_does_not_count(store):
    path = store.save(1, write)
    marker = read_document(path / MARKER)
    del marker["files"]["rng_state.pth"]
    write_document(path / MARKER, marker)
    assert "rng_state.pth" in store.problem(path)
    assert store.newest() is None


def test_incomplete_checkpoint_is_refused(store):
    with pytest.raises(RuntimeError, match="optimizer"):
        store.save(1, lambda folder: (folder / "weights.safetensors").write_text("x"))
    assert store.newest() is None


def test_other_jobs_do_not_count_and_go(store):
    store.save(5, write)
    other = Checkpoints(store.folder, "another job")
    assert other.newest() is None
    other.save(1, write)
    assert other.newest().name == "step-1"
    assert not (store.folder / "step-5").exists()


def test_leftovers_of_a_kill_are_harmless(store):
    (store.folder / ".tmp-step-3").mkdir(parents=True)
    (store.folder / "step-3").mkdir()
    assert store.newest() is None
    assert store.newest() is None
    store.save(3, write)
    assert store.newest().name == "step-3"
    assert [p.name for p in store.folder.iterdir()] == ["step-3"]
