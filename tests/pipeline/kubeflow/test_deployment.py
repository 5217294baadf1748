"""Deployment settings: defaults, overrides by node, and errors that name the key."""

from pathlib import Path

import pytest

from pipeline.kubeflow import deployment
from pipeline.kubeflow.deployment import DEFAULT_FILE, Resources, Secret, read_deployment
from serving import bucket


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
        ('image = "a:1"\nroot = "s3://b/r"\nvolume = "v"\nmetadata = "grpc://m:1"', "`volume` has to be empty"),
        ('image = "a:1"\nroot = "gs://b/r"', "`metadata` has to name a metadata server"),
        ('image = "a:1"\nroot = "gs://b/r"\nmetadata = "grpc://m:1"\nflink = "f:1"', "leave `flink` empty"),
        ('image = "a:1"\nroot = "hdfs://b/r"', "s3://BUCKET/FOLDER or gs://BUCKET/FOLDER"),
    ],
)
def test_error_names_key_and_section(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_deployment(write_settings(tmp_path, text))


def test_root_option_in_a_bucket_replaces_the_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOWCASE_CACHE", str(tmp_path))
    settings = read_deployment(DEFAULT_FILE)
    placed = deployment.place_in(settings, bucket.working_copy("s3://bucket/home"))
    assert (placed.root, placed.volume, placed.metadata) == ("s3://bucket/home", "", settings.metadata)
    assert deployment.place_in(settings, tmp_path / "home") == settings
    runtime = deployment.pod_runtime(placed.root, placed.metadata)
    assert runtime.root == f"{tmp_path}/s3/bucket/home" and runtime.database == settings.metadata


def test_credentials_of_a_bucket_come_from_an_optional_secret() -> None:
    settings = read_deployment(DEFAULT_FILE)
    names = {"AWS_ACCESS_KEY_ID": "access-key-id", "AWS_SECRET_ACCESS_KEY": "secret-access-key"}
    assert {name: settings.secrets[name] for name in names} == {
        name: Secret("bucket", key, optional=True) for name, key in names.items()
    }


def test_secret_has_no_field_for_its_value() -> None:
    assert set(deployment.Secret.__dataclass_fields__) == {"secret", "key", "optional"}
