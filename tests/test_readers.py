"""Readers of image data, against Pillow and against files that the tests write themselves."""

import gzip
import struct
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from types import ModuleType
from urllib.error import URLError

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from models.errors import DataError
from models.image import readers

REPOSITORY = Path(__file__).parent.parent
FASHION = REPOSITORY.parent / "shared" / "data" / "fashion_mnist"


def decoded(content: bytes) -> np.ndarray:
    with Image.open(BytesIO(content)) as image:
        image.load()
        return np.asarray(image)


def rows(span: Path) -> list[dict]:
    return [row for batch in readers.read(span) for row in batch.to_pylist()]


def random_images(*size: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, size, np.uint8)


def idx(images: np.ndarray, dimensions: int, announced: int | None = None) -> bytes:
    sizes = (len(images) if announced is None else announced, *images.shape[1:])
    return struct.pack(f">{1 + dimensions}I", 0x800 + dimensions, *sizes) + images.tobytes()


def write_idx(span: Path, prefix: str, images: np.ndarray, labels: np.ndarray, packed: bool = False) -> None:
    for name, content in (("images-idx3", idx(images, 3)), ("labels-idx1", idx(labels, 1))):
        path = span / f"{prefix}-{name}-ubyte{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(content) if packed else content)


def write_image(path: Path, array: np.ndarray) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return array


# PNG


@pytest.mark.parametrize("size", [(3, 1, 1, 1), (5, 8, 8, 1), (4, 28, 28, 1), (4, 32, 32, 3), (2, 300, 257, 3)])
def test_a_png_decodes_to_the_array_it_was_made_of(size):
    for images in (random_images(*size), np.zeros(size, np.uint8), np.full(size, 255, np.uint8)):
        for array, content in zip(images, readers.pngs(images), strict=True):
            expected = array[..., 0] if size[-1] == 1 else array
            np.testing.assert_array_equal(decoded(content), expected)


def test_a_png_passes_pillows_own_check_of_its_checksums():
    with Image.open(BytesIO(readers.pngs(random_images(1, 28, 28, 1))[0])) as image:
        image.verify()


# Stored sets


def test_the_embedded_digits_come_back_as_scikit_learn_has_them(tmp_path):
    from sklearn.datasets import load_digits

    assert readers.embedded(tmp_path) == tmp_path
    found, original = rows(readers.spans(tmp_path)[0]), load_digits()
    assert len(found) == 1797
    assert [row["label"] for row in found] == original.target.astype(str).tolist()
    pixels = np.stack([decoded(row["image"]) for row in found])
    np.testing.assert_array_equal(np.rint(pixels / (255 / 16)), original.images)
    assert {pixels.min(), pixels.max()} == {0, 255}
    assert {row["part"] for row in found} == {""}
    assert readers.shape(tmp_path / "span-000") == (8, 8, 1)
    assert readers.classes(tmp_path / "span-000") == list("0123456789")


def test_storing_twice_does_nothing_the_second_time(tmp_path):
    path = readers.embedded(tmp_path) / "span-000" / "images.npz"
    before = path.stat().st_mtime_ns
    readers.embedded(tmp_path)
    assert path.stat().st_mtime_ns == before
    assert [child.name for child in path.parent.iterdir()] == ["images.npz"]


def test_a_folder_of_one_set_is_not_taken_for_another(tmp_path):
    readers.embedded(tmp_path)
    with pytest.raises(DataError, match="holds other data than 'mnist'"):
        readers.keras_dataset("mnist", tmp_path)


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def break_off(file, **_):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", break_off)
    with pytest.raises(OSError, match="disk full"):
        readers.embedded(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def fake_keras(monkeypatch, name: str, load) -> None:
    module = ModuleType(f"keras.datasets.{name}")
    module.load_data = load
    for part in ("keras", "keras.datasets"):
        monkeypatch.setitem(sys.modules, part, ModuleType(part))
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_a_keras_set_keeps_its_official_split(tmp_path, monkeypatch):
    images, labels = random_images(5, 32, 32, 3), np.array([[0], [9], [3], [3], [1]])
    fake_keras(monkeypatch, "cifar10", lambda: ((images[:3], labels[:3]), (images[3:], labels[3:])))
    found = rows(readers.keras_dataset("cifar10", tmp_path) / "span-000")
    assert [row["key"] for row in found] == ["train/00000", "train/00001", "train/00002", "test/00000", "test/00001"]
    assert [row["label"] for row in found] == ["0", "9", "3", "3", "1"]
    np.testing.assert_array_equal(np.stack([decoded(row["image"]) for row in found]), images)


@pytest.mark.parametrize("error", [URLError("no network"), TimeoutError("timed out"), ValueError("bad hash")])
def test_a_failed_download_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch, error):
    def load():
        raise error

    fake_keras(monkeypatch, "mnist", load)
    with pytest.raises(DataError, match="'mnist' could not be downloaded .* embedded digits"):
        readers.keras_dataset("mnist", tmp_path / "raw")
    assert not (tmp_path / "raw").exists()


def test_an_unknown_set_names_the_known_ones(tmp_path):
    with pytest.raises(DataError, match="'imagenet'.*fashion_mnist"):
        readers.keras_dataset("imagenet", tmp_path)


# Archives


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
    np.savez(tmp_path / "images.npz", images=random_images(2, 4, 4), labels=["b", "a"], classes=["a", "b", "c"])
    assert readers.classes(tmp_path) == ["a", "b", "c"]
    assert readers.shape(tmp_path) == (4, 4, 1)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": random_images(3, 4, 4), "labels": ["a", "b"]}, "3 images, 2 labels"),
        ({"images": random_images(3, 4, 4)}, "0 labels"),
        ({"labels": ["a"]}, "needs an array 'images'"),
        ({"images": np.zeros((2, 4, 4)), "labels": ["a", "b"]}, "uint8"),
        ({"images": random_images(1, 4, 4), "labels": ["a"], "part": ["dev"]}, "part 'dev'"),
    ],
)
def test_an_archive_of_another_form_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "images.npz", **arrays)
    with pytest.raises(DataError, match=f"images.npz.*{message}"):
        rows(tmp_path)


def test_a_cut_archive_is_refused(tmp_path):
    path = readers.embedded(tmp_path) / "span-000" / "images.npz"
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(DataError, match="images.npz is damaged"):
        rows(path.parent)


# IDX


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_give_both_parts(tmp_path, packed):
    images, labels = random_images(5, 6, 7), np.array([3, 1, 2, 0, 1], np.uint8)
    write_idx(tmp_path, "train", images[:3], labels[:3], packed)
    write_idx(tmp_path, "t10k", images[3:], labels[3:], packed)
    found = rows(tmp_path)
    np.testing.assert_array_equal(np.stack([decoded(row["image"]) for row in found]), images)
    assert [row["label"] for row in found] == ["3", "1", "2", "0", "1"]
    assert [row["part"] for row in found] == ["train"] * 3 + ["test"] * 2
    assert [row["key"] for row in found][2:4] == ["train/00002", "test/00000"]
    assert readers.shape(tmp_path) == (6, 7, 1)
    assert readers.classes(tmp_path) == ["0", "1", "2", "3"]


def damage(span: Path, name: str, change) -> None:
    path = span / name
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("packed", "name", "change", "message"),
    [
        (False, "train-images-idx3-ubyte", lambda data: b"\1" + data[1:], "starts with 0x01000803"),
        (False, "train-images-idx3-ubyte", lambda data: data[:-1], "announces 126 bytes and holds 125"),
        (False, "train-images-idx3-ubyte", lambda data: data + b"\0", "holds 127"),
        (False, "train-images-idx3-ubyte", lambda data: data[:6], "damaged"),
        (True, "train-images-idx3-ubyte.gz", lambda data: data[:-9], "damaged"),
        (True, "train-images-idx3-ubyte.gz", lambda data: b"no gzip" + data, "damaged"),
        (True, "train-labels-idx1-ubyte.gz", lambda data: data[:-9], "damaged"),
        (False, "train-labels-idx1-ubyte", lambda _: idx(np.zeros(2, np.uint8), 1), "2 labels"),
    ],
)
def test_a_damaged_idx_file_is_named(tmp_path, packed, name, change, message):
    write_idx(tmp_path, "train", random_images(3, 6, 7), np.zeros(3, np.uint8), packed)
    damage(tmp_path, name, change)
    with pytest.raises(DataError, match=f"{name}.*{message}"):
        rows(tmp_path)


def test_images_without_their_labels_are_refused(tmp_path):
    write_idx(tmp_path, "train", random_images(3, 6, 7), np.zeros(3, np.uint8))
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="train-labels-idx1-ubyte is missing"):
        rows(tmp_path)


def test_parts_of_different_sizes_are_refused(tmp_path):
    write_idx(tmp_path, "train", random_images(3, 6, 7), np.zeros(3, np.uint8))
    write_idx(tmp_path, "t10k", random_images(3, 7, 6), np.zeros(3, np.uint8))
    with pytest.raises(DataError, match="differ in size"):
        rows(tmp_path)


def test_fashion_mnist_reads_as_published(tmp_path):
    if not FASHION.exists():
        pytest.skip("Fashion-MNIST is not beside this checkout")
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        (tmp_path / name).symlink_to(FASHION / name)
    first = next(readers.read(tmp_path))
    raw = np.frombuffer(gzip.decompress((FASHION / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    np.testing.assert_array_equal(decoded(first["image"][4095].as_py()), raw.reshape(-1, 28, 28)[4095])
    assert first["label"][:5].to_pylist() == ["9", "2", "1", "1", "6"]
    assert readers.shape(tmp_path) == (28, 28, 1)
    assert len(readers.classes(tmp_path)) == 10


# Class folders


def test_class_folders_pass_files_through_and_encode_the_rest(tmp_path):
    grey = write_image(tmp_path / "cat" / "a.png", random_images(9, 7))
    write_image(tmp_path / "cat" / "b.JPG", random_images(9, 7))
    bitmap = write_image(tmp_path / "dog" / "c.bmp", random_images(9, 7, 3))
    (tmp_path / "dog" / ".DS_Store").write_bytes(b"not an image")
    (tmp_path / "dog" / "notes.txt").write_text("not an image")
    found = rows(tmp_path)
    assert [row["key"] for row in found] == ["cat/a.png", "cat/b.JPG", "dog/c.bmp"]
    assert [row["label"] for row in found] == ["cat", "cat", "dog"]
    assert [row["image"] for row in found][:2] == [(tmp_path / row["key"]).read_bytes() for row in found[:2]]
    assert found[2]["image"].startswith(b"\x89PNG")
    np.testing.assert_array_equal(decoded(found[2]["image"]), bitmap)
    assert found[0]["brightness"] == pytest.approx(grey.mean() / 255, abs=1e-6)
    assert found[0]["contrast"] == pytest.approx(grey.std() / 255, abs=1e-6)
    assert readers.classes(tmp_path) == ["cat", "dog"]
    assert readers.shape(tmp_path) == (9, 7, 3)


@pytest.mark.parametrize("held_out", ["test", "eval", "val"])
def test_class_folders_under_parts(tmp_path, held_out):
    write_image(tmp_path / "train" / "cat" / "1.png", random_images(80, 100))
    write_image(tmp_path / held_out / "dog" / "1.png", random_images(80, 100))
    assert {(row["part"], row["key"]) for row in rows(tmp_path)} == {
        ("train", "train/cat/1.png"),
        ("test", f"{held_out}/dog/1.png"),
    }
    assert readers.classes(tmp_path) == ["cat", "dog"]
    assert readers.shape(tmp_path) == (64, 64, 1)


def test_sixteen_bits_stay_in_the_unit_range(tmp_path):
    write_image(tmp_path / "cat" / "a.png", np.full((4, 4), 32768, np.uint16))
    assert rows(tmp_path)[0]["brightness"] == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp"])
@pytest.mark.parametrize("change", [lambda data: data[: len(data) // 2], lambda _: b"", lambda _: b"text"])
def test_a_damaged_image_is_named(tmp_path, name, change):
    write_image(tmp_path / "cat" / name, random_images(20, 20, 3))
    damage(tmp_path / "cat", name, change)
    with pytest.raises(DataError, match=f"cat/{name} is not an image that can be read"):
        rows(tmp_path)


def test_a_batch_of_large_files_is_cut_by_size(tmp_path, monkeypatch):
    for number in range(3):
        write_image(tmp_path / "cat" / f"{number}.png", random_images(20, 20))
    monkeypatch.setattr(readers, "BATCH_BYTES", 600)
    assert [batch.num_rows for batch in readers.read(tmp_path)] == [2, 1]


# Spans


def test_spans_go_by_number(tmp_path):
    for name in ("span-010", "span-2", "other", "span-x"):
        write_image(tmp_path / name / "cat" / "a.png", random_images(4, 4))
    assert readers.spans(tmp_path) == {2: tmp_path / "span-2", 10: tmp_path / "span-010"}
    assert list(readers.spans(tmp_path)) == [2, 10]
    assert readers.spans(tmp_path / "other") == {0: tmp_path / "other"}


def test_two_folders_of_one_number_are_refused(tmp_path):
    for name in ("span-1", "span-001"):
        write_image(tmp_path / name / "cat" / "a.png", random_images(4, 4))
    with pytest.raises(DataError, match="two folders for one span number"):
        readers.spans(tmp_path)


@pytest.mark.parametrize("make", ["nothing", "empty", "file", "empty span", "forbidden"])
def test_a_source_without_images_says_what_was_expected(tmp_path, monkeypatch, make):
    source = tmp_path / "raw"
    if make == "file":
        source.write_text("not a folder")
    elif make != "nothing":
        (source / "span-000" if make == "empty span" else source).mkdir(parents=True)
    if make == "forbidden":
        monkeypatch.setattr(Path, "iterdir", lambda _: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    with pytest.raises(DataError, match="raw.*expected.*IDX files"):
        readers.spans(source)


def test_the_import_brings_neither_tensorflow_nor_scikit_learn():
    heavy = "{'tensorflow', 'tfx', 'keras', 'sklearn', 'apache_beam'}"
    check = f"import sys, models.image.readers; sys.exit(bool({heavy} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=REPOSITORY)
