"""Class names of settings: a list, and the text with commas that older releases wrote."""

import pytest

from models.data.class_names import list_classes


@pytest.mark.parametrize(
    ("settings", "classes"),
    [
        ({"classes": ["a,b", "c"]}, ["a,b", "c"]),
        ({"classes": ("a", "b")}, ["a", "b"]),
        ({"classes": "a,b"}, ["a", "b"]),
        ({"classes": ""}, []),
        ({}, []),
    ],
)
def test_classes_are_a_list_and_the_text_of_an_older_version_is_read(settings: dict, classes: list[str]) -> None:
    assert list_classes(settings) == classes
