"""The file that says how tasks run on a cluster: what it may hold, and what is refused by name."""

from pathlib import Path

import pytest

from pipeline.kubeflow import deployment
from pipeline.kubeflow.deployment import DEFAULT, Resources, Secret, read


def written(folder: Path, text: str) -> Path:
    path = folder / "cluster.toml"
    path.write_text(text)
    return path


def test_the_file_of_the_repository_reads() -> None:
    found = read(DEFAULT)
    assert found.image.partition(":")[2] not in ("", "latest")
    assert found.volume and found.metadata.startswith("grpc://")
    assert found.secrets["METADATA_PASSWORD"] == Secret("metadata-mysql", "password", optional=True)


def test_a_node_has_its_own_and_otherwise_the_defaults(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        'image = "a:1"\nroot = "/r"\nretries = 3\n[default]\ncpu = "2"\nmemory = "4Gi"\n'
        '[nodes.Trainer]\nmemory = "16Gi"\naccelerator = "nvidia.com/gpu"\naccelerators = 1\nselector = { gpu = "yes" }\n'
        "[nodes.Pusher]\nretries = 0\n",
    )
    found = read(path)
    assert found.of("Trainer") == Resources("2", "16Gi", "nvidia.com/gpu", 1, {"gpu": "yes"})
    assert found.of("Evaluator") == Resources("2", "4Gi")
    assert [found.retried(name) for name in ("Pusher", "Trainer")] == [0, 3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('image = "a:1"\nroot = "/r"\nimmage = "b"', "there is no 'immage'"),
        ('image = "a:1"\nroot = "/r"\n[nodes.Trainer]\nmemry = "1Gi"', "nodes.Trainer: there is no 'memry'"),
        ('image = "a:1"\nroot = "/r"\nretries = "many"', "'retries' takes a whole number"),
        ('image = "a:1"\nroot = "/r"\n[default]\ncpu = 2', "'cpu' takes text"),
        ('image = "a:1"\nroot = "/r"\n[secrets.WORD]\nsecret = "s"', "secrets.WORD: missing"),
        ('root = "/r"', "missing 1 required positional argument: 'image'"),
        ("image = ", "is no TOML"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read(written(tmp_path, text))


def test_the_module_names_no_secret_value() -> None:
    assert set(deployment.Secret.__dataclass_fields__) == {"secret", "key", "optional"}
