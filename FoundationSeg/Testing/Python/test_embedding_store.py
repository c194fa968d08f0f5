# SPDX-License-Identifier: Apache-2.0
"""Embeddings on disk: found again only for the same thing, bounded, private, and safe from damage and from kill -9."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bright_predictor import bright_model
from FoundationSegLib import FoundationSegError, Point, SegmentationSession, Volume, embedding_store
from FoundationSegLib.embedding_store import FORMAT, VARIABLE, EmbeddingStore, default_store, shelf_of, stored_in
from FoundationSegLib.predictor import Embedding, EmbeddingCache, ModelIdentity
from FoundationSegLib.region import Region
from FoundationSegLib.slicewise.contrast import Contrast
from FoundationSegLib.slicewise.decoding import SliceKey

IDENTITY = ModelIdentity("sam-med3d-turbo", "abc", "1" * 64, "cpu", "float32", {"torch": "2"})
REGION = Region((10.0, 20.0, 30.0), 1.5, 128)
KEYS = [f"{number:064x}" for number in range(8)]


def volume(value: int = 7, shift: float = 0.0) -> Volume:
    array = np.arange(20 * 22 * 24, dtype=np.int16).reshape(20, 22, 24)
    array[3, 4, 5] = value
    matrix = np.eye(4)
    matrix[0, 3] = shift
    return Volume(array, matrix, "CT", name="Doe^Jane")


def embedding(seed: int = 0, size: int = 64) -> Embedding:
    return Embedding({"image": np.random.default_rng(seed).normal(size=(size, 4)).astype(np.float32)})


def store_in(folder: Path, capacity_bytes: int = 10**8) -> EmbeddingStore:
    return EmbeddingStore(folder / "embeddings", capacity_bytes)


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own store, turned on, in a folder of the test."""
    monkeypatch.setenv("FOUNDATIONSEG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(VARIABLE, "on")
    return tmp_path / "home" / "embeddings"


def test_what_is_kept_comes_back_as_it_was(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {
        "image": rng.normal(size=(3, 5, 7)).astype(np.float32),
        "half": rng.normal(size=(2, 9)).astype(np.float16)[:, ::-2],
        "swapped": np.arange(5, dtype=">i4"),
        "mask": rng.random((4, 3)) > 0.5,
        "scalar": np.array(2.5),
        "empty": np.zeros((0, 4), np.uint8),
    }
    store_in(tmp_path).put(KEYS[0], Embedding(tensors))
    found = store_in(tmp_path).get(KEYS[0])
    assert found is not None and list(found.tensors) == list(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found.tensors[name], tensor)
        assert found.tensors[name].dtype == tensor.dtype.newbyteorder("<")
    found.tensors["image"][:] = 0  # as a careless user would
    again = store_in(tmp_path).get(KEYS[0])
    assert again is not None
    np.testing.assert_array_equal(again.tensors["image"], tensors["image"])
    assert store_in(tmp_path).get(KEYS[1]) is None
    with pytest.raises(TypeError, match="hold numbers"):
        store_in(tmp_path).put(KEYS[0], Embedding({"names": np.array([object()])}))


def test_files_are_mapped_not_read(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.put(KEYS[0], embedding())
    found = store.get(KEYS[0])
    assert found is not None
    base = found.tensors["image"]
    while isinstance(base, np.ndarray):
        assert not base.flags.owndata
        base = base.base
    assert type(base).__name__ in ("mmap", "memoryview")


@pytest.mark.skipif(os.name != "posix", reason="on Windows the user's profile keeps others out")
def test_only_the_user_can_read_them(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.folder.mkdir(mode=0o755)
    mask = os.umask(0)
    try:
        store.put(KEYS[0], embedding())
    finally:
        os.umask(mask)
    assert store.folder.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in store.folder.iterdir()] == [0o600]


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    store_in(tmp_path / "one").put(KEYS[0], embedding())
    size = store_in(tmp_path / "one").usage().size_bytes
    store = store_in(tmp_path, 3 * size + 10)
    for number in range(3):
        store.put(KEYS[number], embedding(number))
        os.utime(store.folder / f"{KEYS[number]}.embedding", (1000 + number, 1000 + number))
    assert store.get(KEYS[0]) is not None  # used just now
    store.put(KEYS[3], embedding(3))
    assert [store.get(key) is not None for key in KEYS[:4]] == [True, False, True, True]
    assert store.usage().files == 3 and store.usage().size_bytes <= store.capacity_bytes
    store.put(KEYS[4], embedding(4, 1024))
    assert store.get(KEYS[4]) is None and store.usage().files == 3, "larger than the store: nothing goes for it"
    small = store_in(tmp_path, size + 10)
    small.put(KEYS[5], embedding(5))
    assert small.usage().files == 1 and small.get(KEYS[5]) is not None, "a smaller capacity counts at once"


def test_damage_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    kept = Embedding({"image": np.arange(24, dtype=np.float32).reshape(2, 3, 4)})
    store.put(KEYS[0], kept)
    path = store.folder / f"{KEYS[0]}.embedding"
    whole = path.read_bytes()
    spoiled = [whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :] for place in range(len(whole))]
    spoiled += [whole[:place] for place in range(len(whole))] + [whole + b"\0"]
    for content in spoiled:
        path.write_bytes(content)
        assert store.get(KEYS[0]) is None
        assert not path.exists()
    path.write_bytes(whole)
    found = store.get(KEYS[0])
    assert found is not None
    np.testing.assert_array_equal(found.tensors["image"], kept.tensors["image"])


def test_foreign_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = store_in(tmp_path)
    store.put(KEYS[0], embedding())
    first = store.folder / f"{KEYS[0]}.embedding"
    renamed = store.folder / f"{KEYS[1]}.embedding"
    renamed.write_bytes(first.read_bytes())
    older = store.folder / f"{KEYS[2]}.embedding"
    older.write_bytes(first.read_bytes()[:8] + bytes([FORMAT + 1]) + first.read_bytes()[9:])
    pickled = store.folder / f"{KEYS[3]}.embedding"
    pickled.write_bytes(b"\x80\x04cos\nsystem\n" * 20)
    with caplog.at_level(logging.WARNING):
        assert [store.get(key) for key in KEYS[1:4]] == [None] * 3
    for reason in ("another key", f"format is {FORMAT + 1}", "none of ours"):
        assert reason in caplog.text
    assert [path.exists() for path in (first, renamed, older, pickled)] == [True, False, False, False]
    letter = store.folder / "letter.txt"
    letter.write_text("not ours")
    assert store.usage().files == 1
    assert store.clear() > 0 and store.usage().files == 0
    assert letter.exists(), "under names that are not ours nothing is touched"


WRITER = """
import sys
import numpy as np
from pathlib import Path
from FoundationSegLib.embedding_store import EmbeddingStore
from FoundationSegLib.predictor import Embedding
store = EmbeddingStore(Path(sys.argv[1]), 10**9)
kept = Embedding({"image": np.arange(8 * 2**20, dtype=np.float32)})
print("ready", flush=True)
while True:
    store.put("0" * 64, kept)
"""


def test_two_processes_and_kill_9(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Both write the same key over and over and are killed in the middle of a file; a reader never sees half of one."""
    store = store_in(tmp_path)
    wanted = np.arange(8 * 2**20, dtype=np.float32)
    command = [sys.executable, "-c", WRITER, str(store.folder)]
    package = str(Path(embedding_store.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": package}
    writers = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for writer in writers:
            assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        while not store.usage().files or store.get(KEYS[0]) is None:
            time.sleep(0.01)
        with caplog.at_level(logging.WARNING):
            for writer in writers:
                for _ in range(3):
                    found = store.get(KEYS[0])
                    assert found is not None and np.array_equal(found.tensors["image"], wanted)
                while not list(store.folder.glob(".*.new")):
                    time.sleep(0.001)
                writer.kill()
        for writer in writers:
            assert writer.wait() == (-signal.SIGKILL if os.name == "posix" else 1)
        found = store.get(KEYS[0])
        assert found is not None and np.array_equal(found.tensors["image"], wanted)
        assert not caplog.records, "nothing that could be seen was damaged"
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
            assert writer.stdout is not None
            writer.stdout.close()


def test_what_killed_processes_left_is_removed_after_a_while(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.put(KEYS[0], embedding())
    old, young = (store.folder / f".{number:016x}.new" for number in range(2))
    for path in (old, young):
        path.write_bytes(bytes(1000))
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    assert store.usage().files == 3, "they count"
    store.put(KEYS[1], embedding())
    assert not old.exists() and young.exists(), "another process may still be writing the young one"


def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("where the folder should be")
    store = EmbeddingStore(tmp_path / "file")
    with caplog.at_level(logging.WARNING):
        store.put(KEYS[0], embedding())
        store.put(KEYS[1], embedding())
    assert len(caplog.records) == 1 and f"{VARIABLE}=off" in caplog.text
    assert EmbeddingStore(tmp_path / "nowhere").usage().files == EmbeddingStore(tmp_path / "nowhere").clear() == 0


def test_the_disk_is_not_filled_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = store_in(tmp_path)
    store.put(KEYS[0], embedding())
    monkeypatch.setattr(embedding_store, "_FREE_BYTES", 2**60)  # as if all that is free had to stay so
    with caplog.at_level(logging.WARNING):
        store.put(KEYS[1], embedding())
    assert "nearly full" in caplog.text and store.usage().files == 0


def test_the_environment_decides(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = default_store()
    assert store is not None and store.folder == stored_in() == at_home and not at_home.exists()
    for value, capacity in (("2.5", 2_500_000_000), ("ON", embedding_store.CAPACITY_BYTES), ("12", 12 * 10**9)):
        monkeypatch.setenv(VARIABLE, value)
        store = default_store()
        assert store is not None and store.capacity_bytes == capacity
    for value in ("off", "OFF", "0"):
        monkeypatch.setenv(VARIABLE, value)
        assert default_store() is None and shelf_of(volume(), IDENTITY) is None
    for value in ("no", "of", "-1", "1e9", "nan"):
        monkeypatch.setenv(VARIABLE, value)
        with pytest.raises(FoundationSegError, match=f"{VARIABLE} is '{value}'; set it to off"):
            default_store()


def runs(volume_: Volume, identity: ModelIdentity, key: object, cache: EmbeddingCache | None = None) -> int:
    """Encoder runs that a new session needs."""
    cache = cache or EmbeddingCache()
    cache.keep(volume_, identity)
    found = cache.get(key, embedding)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.tensors["image"], embedding().tensors["image"])
    return cache.misses


def test_found_again_only_for_the_same_thing(at_home: Path) -> None:
    assert runs(volume(), IDENTITY, REGION) == 1
    assert runs(volume(), IDENTITY, REGION) == 0, "another session, the same volume and model"
    named = Volume(volume().array, volume().ijk_to_ras, "CT", name="other")
    assert runs(named, IDENTITY, REGION) == 0, "a name is not what an embedding depends on"
    others = [
        (volume(8), IDENTITY, REGION),
        (volume(shift=0.5), IDENTITY, REGION),
        (Volume(volume().array, volume().ijk_to_ras, "MR"), IDENTITY, REGION),
        (volume(), replace(IDENTITY, name="sam-med3d"), REGION),
        (volume(), replace(IDENTITY, revision="def"), REGION),
        (volume(), replace(IDENTITY, sha256="2" * 64), REGION),
        (volume(), replace(IDENTITY, device="cuda"), REGION),
        (volume(), replace(IDENTITY, precision="bfloat16"), REGION),
        (volume(), replace(IDENTITY, versions={"torch": "3"}), REGION),
        (volume(), IDENTITY, replace(REGION, spacing=1.5000000000000002)),
        (volume(), IDENTITY, (REGION.centre, REGION.spacing, REGION.size)),
        (volume(), IDENTITY, SliceKey(0, 1, Contrast(0.0, 255.0))),
        (volume(), IDENTITY, SliceKey(0, 1, Contrast(0.0, 255.0, True))),
        (volume(), IDENTITY, ("vista3d", (1, 2))),
        (volume(), IDENTITY, ("vista3d", 1, 2)),
        (volume(), IDENTITY, ("1", 1, 1.0, True, None)),
        (volume(), IDENTITY, (1, "1", True, 1.0, None)),
    ]
    assert [runs(*other) for other in others] == [1] * len(others)
    assert [runs(*other) for other in others] == [0] * len(others)
    assert runs(volume(), IDENTITY, ("slice", np.int64(3), np.float32(0.5))) == 1
    assert runs(volume(), IDENTITY, ("slice", 3, 0.5)) == 0, "numbers of NumPy are numbers"
    with pytest.raises(TypeError, match="under a key with a frozenset in it"):
        runs(volume(), IDENTITY, ("slice", frozenset({1})))


def test_no_identifier_in_names_or_contents(at_home: Path) -> None:
    runs(volume(), IDENTITY, REGION)
    (path,) = at_home.iterdir()
    assert re.fullmatch(r"[0-9a-f]{64}\.embedding", path.name)
    content = path.read_bytes()
    assert volume().name.encode() not in content and volume().fingerprint.encode() not in content
    assert volume().fingerprint not in path.name


def test_what_stays_in_memory(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [runs(volume(), IDENTITY, REGION, EmbeddingCache(on_disk=False)) for _ in range(2)] == [1, 1]
    assert [runs(volume(), replace(IDENTITY, sha256=""), REGION) for _ in range(2)] == [1, 1], "whose weights?"
    session = SegmentationSession(volume(), bright_model())  # by the way of the embedded model
    session.add("s", Point((10.0, 10.0, 18.0)))
    assert session.cache.misses > 0
    monkeypatch.setenv(VARIABLE, "off")
    assert runs(volume(), IDENTITY, REGION) == 1
    assert not at_home.exists()


def test_a_known_volume_opened_again_in_a_session(at_home: Path, tmp_path: Path) -> None:
    """SAM-Med3D, reduced and with random weights: no encoder run, and the same mask to the bit."""
    pytest.importorskip("torch", reason="the families need the extra `torch`")
    from FoundationSegLib import families
    from FoundationSegLib.families.sam_med3d.config import SamMed3dConfig
    from safetensors.torch import save_file
    from sam_med3d_case import MODEL_A, card, drawn_network, oblique_volume

    path = tmp_path / "random.safetensors"
    save_file(drawn_network(SamMed3dConfig.from_dict(MODEL_A), 31).state_dict(), path)
    model = families.load(card(MODEL_A), path, "cpu")
    shape = (18, 56, 50)  # fits into one region
    sessions = [SegmentationSession(oblique_volume(shape), model) for _ in range(2)]
    results = []
    for session in sessions:
        point = Point(tuple(session.volume.kji_to_ras(np.array([14.0, 24.0, 22.0]))))
        results.append(session.add("lesion", point))
    assert [session.cache.misses for session in sessions] == [1, 0]
    assert "encode" in results[0].timings and not {"crop", "encode"} & set(results[1].timings)
    np.testing.assert_array_equal(sessions[0].mask("lesion"), sessions[1].mask("lesion"))
    assert results[0].voxels == results[1].voxels > 0 and results[0].predicted_iou == results[1].predicted_iou
