"""Deployment settings: defaults, overrides by node, and errors that name the key."""

from pathlib import Path

import pytest

from pipeline.kubeflow import deployment
from pipeline.kubeflow.deployment import DEFAULT_FILE, Resources, Secret, read_deployment


def write_settings(folder: Path, text: str) -> Path:
    path = folder / "cluster.toml"
    path.write_text(text)
    return path


def test_default_file_is_valid() -> None:
    settings = read_deployment(DEFAULT_FILE)
    assert settings.image.partition(":")[2] not in ("", "latest")
    assert settings.volume and settings.metadata.startswith("grpc://")
    assert settings.secrets["METADATA_PASSWORD"] == Secret("metadata-mysql", "password", optional=True)


def test_node_overrides_defaults(tmp_path: Path) -> None:
    path = write_settings(
        tmp_path,
        'image = "a:1"\nroot = "/r"\nretries = 3\n[default]\ncpu = "2"\nmemory = "4Gi"\n'
        '[nodes.Trainer]\nmemory = "16Gi"\naccelerator = "nvidia.com/gpu"\naccelerators = 1\nselector = { gpu = "yes" }\n'
        "[nodes.Pusher]\nretries = 0\n",
    )
    settings = read_deployment(path)
    assert settings.resources_for("Trainer") == Resources(
        "2", "16Gi", accelerator="nvidia.com/gpu", accelerators=1, selector={"gpu": "yes"}
    )
    assert settings.resources_for("Evaluator") == Resources("2", "4Gi")
    assert [settings.retries_for(name) for name in ("Pusher", "Trainer")] == [0, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('image = "a:1"\nroot = "/r"\nimmage = "b"', "unknown key 'immage'"),
        ('image = "a:1"\nroot = "/r"\n[nodes.Trainer]\nmemry = "1Gi"', "nodes.Trainer: unknown key 'memry'"),
        ('image = "a:1"\nroot = "/r"\nretries = "many"', "'retries' takes a whole number"),
        ('image = "a:1"\nroot = "/r"\n[default]\ncpu = 2', "'cpu' takes text"),
        ('image = "a:1"\nroot = "/r"\n[secrets.WORD]\nsecret = "s"', "secrets.WORD: missing"),
        ('root = "/r"', "missing 1 required positional argument: 'image'"),
        ("image = ", "is not valid TOML"),
    ],
)
def test_error_names_key_and_section(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_deployment(write_settings(tmp_path, text))


def test_secret_has_no_field_for_its_value() -> None:
    assert set(deployment.Secret.__dataclass_fields__) == {"secret", "key", "optional"}
