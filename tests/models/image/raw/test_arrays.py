"""NumPy archives and IDX files, against files that the tests write."""

import gzip

import numpy as np
import pyarrow as pa
import pytest
from support.command import ROOT
from support.pictures import check_images, damage, decode_picture, encode_idx, random_images, read_rows, write_idx

from models.errors import DataError
from models.image.raw import readers, sources

FASHION = ROOT.parent / "shared" / "data" / "fashion_mnist"


def test_batches_hold_at_most_4096_rows_and_every_column(tmp_path):
    images = random_images(4100, 4, 4, 1)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(4100) % 3)
    batches = list(readers.read(tmp_path))
    assert [batch.num_rows for batch in batches] == [4096, 4]
    table = pa.Table.from_batches(batches)
    assert table.schema == readers.COLUMNS
    flat = images.reshape(4100, -1) / 255.0
    np.testing.assert_allclose(table["brightness"], flat.mean(1), atol=1e-6)
    np.testing.assert_allclose(table["contrast"], flat.std(1), atol=1e-6)
    assert len(set(table["key"].to_pylist())) == 4100


def test_an_archive_lists_classes_that_a_span_lacks(tmp_path):
    labels = ["b", "a"] * 30
    np.savez(tmp_path / "images.npz", images=random_images(60, 4, 4), labels=labels, classes=["a", "b", "c"])
    report = check_images(tmp_path)
    assert report.settings == {"classes": ["a", "b", "c"], "height": 4, "width": 4, "channels": 1}
    assert not report.refused and "1 class has no image: c" in report.notes


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": random_images(3, 4, 4), "labels": ["a", "b"]}, "3 images, 2 labels"),
        ({"images": random_images(3, 4, 4)}, "0 labels"),
        ({"labels": ["a"]}, "needs an array 'images'"),
        ({"images": np.zeros((2, 4, 4)), "labels": ["a", "b"]}, "uint8"),
        ({"images": random_images(1, 4, 4), "labels": ["a"], "part": ["fold"]}, "part 'fold'"),
    ],
)
def test_an_archive_with_inconsistent_arrays_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "images.npz", **arrays)
    with pytest.raises(DataError, match=f"images.npz.*{message}"):
        read_rows(tmp_path)


def test_an_archive_may_have_an_official_valid_part_and_labels_of_several_types(tmp_path):
    parts = np.repeat(["Train", "val", "test"], 20)
    for labels in (["a", "Ka\u0308fer"] * 30, np.array([b"a", "Käfer".encode()] * 30), np.array([1.0, 2.0] * 30)):
        np.savez(tmp_path / "images.npz", images=random_images(60, 4, 4), labels=labels, part=parts)
        report = check_images(tmp_path)
        assert report.settings["classes"] in (["Käfer", "a"], ["1", "2"]) and not report.refused
        assert [split.rows for split in report.splits.values()] == [20, 20, 20]


@pytest.mark.parametrize("labels", [np.array([1.5, 2.0]), np.array([np.nan, 2.0]), np.array([b"\xff", b"a"])])
def test_labels_that_name_no_class_are_refused(tmp_path, labels):
    np.savez(tmp_path / "images.npz", images=random_images(2, 4, 4), labels=labels)
    report = check_images(tmp_path)
    assert any("images.npz has labels that are" in message for message in report.refused)
    assert (report.files, report.files_refused, report.files_given) == (0, 1, 1)


def test_files_beside_arrays_are_skipped_by_name(tmp_path):
    write_idx(tmp_path, "train", random_images(30, 6, 7), np.arange(30, dtype=np.uint8) % 2)
    (tmp_path / "train-images-idx3-ubyte").rename(tmp_path / "train-images.idx3-ubyte")
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_bytes(b"anything")
    report = check_images(tmp_path)
    assert report.files == 2 and report.rows == 30
    assert report.skipped == {".txt not read": ["notes.txt"], ".png not read": ["cat/a.png"]}


def test_a_truncated_archive_is_refused(tmp_path):
    path = sources.store_digits(tmp_path) / "span-000" / "images.npz"
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(DataError, match="images.npz is damaged"):
        read_rows(path.parent)


# IDX


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_have_both_parts(tmp_path, packed):
    images, labels = random_images(5, 6, 7), np.array([3, 1, 2, 0, 1], np.uint8)
    write_idx(tmp_path, "train", images[:3], labels[:3], packed)
    write_idx(tmp_path, "t10k", images[3:], labels[3:], packed)
    loaded = read_rows(tmp_path)
    np.testing.assert_array_equal(np.stack([decode_picture(row["image"]) for row in loaded]), images)
    assert [row["label"] for row in loaded] == ["3", "1", "2", "0", "1"]
    assert [row["part"] for row in loaded] == ["train"] * 3 + ["test"] * 2
    assert [row["key"] for row in loaded][2:4] == ["train/00002", "test/00000"]
    report = check_images(tmp_path)
    assert report.settings == {"classes": ["0", "1", "2", "3"], "height": 6, "width": 7, "channels": 1}
    assert report.files == 4


@pytest.mark.parametrize(
    ("packed", "name", "change", "message"),
    [
        (False, "train-images-idx3-ubyte", lambda data: b"\1" + data[1:], "starts with 0x01000803"),
        (False, "train-images-idx3-ubyte", lambda data: data[:-1], "declares 126 bytes of data and has 125"),
        (False, "train-images-idx3-ubyte", lambda data: data + b"\0", "has 127"),
        (False, "train-images-idx3-ubyte", lambda data: data[:6], "damaged"),
        (True, "train-images-idx3-ubyte.gz", lambda data: data[:-9], "damaged"),
        (True, "train-images-idx3-ubyte.gz", lambda data: b"no gzip" + data, "damaged"),
        (True, "train-labels-idx1-ubyte.gz", lambda data: data[:-9], "damaged"),
        (False, "train-labels-idx1-ubyte", lambda _: encode_idx(np.zeros(2, np.uint8), 1), "2 labels"),
    ],
)
def test_a_damaged_idx_file_is_named(tmp_path, packed, name, change, message):
    write_idx(tmp_path, "train", random_images(3, 6, 7), np.zeros(3, np.uint8), packed)
    damage(tmp_path, name, change)
    with pytest.raises(DataError, match=f"{name}.*{message}"):
        read_rows(tmp_path)


def test_images_without_their_labels_are_refused(tmp_path):
    write_idx(tmp_path, "train", random_images(3, 6, 7), np.zeros(3, np.uint8))
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="train-labels-idx1-ubyte is missing"):
        read_rows(tmp_path)


def test_parts_of_different_sizes_are_refused(tmp_path):
    write_idx(tmp_path, "train", random_images(3, 6, 7), np.zeros(3, np.uint8))
    write_idx(tmp_path, "t10k", random_images(3, 7, 6), np.zeros(3, np.uint8))
    with pytest.raises(DataError, match="differ in size"):
        read_rows(tmp_path)


def test_fashion_mnist_equals_the_published_data(tmp_path):
    if not FASHION.exists():
        pytest.skip(f"Fashion-MNIST is not in {FASHION}")
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        (tmp_path / name).symlink_to(FASHION / name)
    first = next(readers.read(tmp_path))
    raw = np.frombuffer(gzip.decompress((FASHION / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    np.testing.assert_array_equal(decode_picture(first["image"][4095].as_py()), raw.reshape(-1, 28, 28)[4095])
    assert first["label"][:5].to_pylist() == ["9", "2", "1", "1", "6"]
