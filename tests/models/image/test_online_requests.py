"""The gateway's interface to pictures: names of classes in answers and labels. Formats are in ``raw/test_conversion.py``."""

import numpy as np
import pytest

from models.image.online_requests import Pictures


@pytest.mark.parametrize(
    ("classes", "names"),
    [(["a,b", "[c] 東京"], ["a,b", "[c] 東京"]), ("a,b", ["a", "b"]), (None, ["0", "1"])],
    ids=["list", "text of an older version", "none"],
)
def test_an_answer_names_the_classes_of_its_version(classes: object, names: list[str]) -> None:
    settings = {} if classes is None else {"classes": classes}
    answer = Pictures().answer({"probabilities": np.array([0.25, 0.75])}, {}, settings)
    assert answer == {"score": 0.75, "decision": names[1], "probabilities": dict(zip(names, (0.25, 0.75), strict=True))}


def test_a_label_has_the_unicode_form_of_the_training_data() -> None:
    assert Pictures().label("Ka\u0308fer") == "K\u00e4fer"
    assert Pictures().label(7) == "7"
