"""The list of packages in pyproject.toml names every package of the repository."""

import tomllib

from setuptools import find_packages
from support.stub_machine import REPOSITORY


def test_the_package_list_names_every_package() -> None:
    include = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"][
        "include"
    ]
    listed = find_packages(str(REPOSITORY), include=include)
    tops = [path for path in REPOSITORY.iterdir() if path.is_dir() and path.name not in ("tests", "build", "runs")]
    packages = [file.parent for top in tops if not top.name.startswith(".") for file in top.rglob("__init__.py")]
    assert sorted(listed) == sorted(".".join(path.relative_to(REPOSITORY).parts) for path in packages)


def test_the_kubernetes_folder_does_not_hide_the_client() -> None:
    assert not (REPOSITORY / "kubernetes" / "__init__.py").exists()
