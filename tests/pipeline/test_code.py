"""Digests of code: what a stage uses counts at any depth, nothing else does, and nothing runs while they are taken."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import code

REPOSITORY = Path(__file__).parents[2]
BOMB = 'raise RuntimeError("imported")\n'
FAKE = {
    "__init__.py": "",
    "stage.py": BOMB + "import fakecode.plain\nfrom fakecode import named\nfrom fakecode.holder import function\n",
    "plain.py": BOMB,
    "named.py": BOMB + "def later():\n    from fakecode.sub import deep\n",
    "holder.py": BOMB + "def function(): ...\n",
    "unrelated.py": BOMB,
    "sub/__init__.py": "",
    "sub/deep.py": BOMB + "import fakecode.stage  # a circle\nimport json, numpy\n",
}
USED = ("stage.py", "plain.py", "named.py", "holder.py", "sub/__init__.py", "sub/deep.py")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of ours by another name, first on the path."""
    for name, text in FAKE.items():
        path = tmp_path / "fakecode" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "fakecode"


def test_the_closure_follows_every_way_to_import(fake: Path) -> None:
    found = code.closure("fakecode.stage")
    names = {"stage", "plain", "named", "holder", "sub", "sub.deep"}
    assert {f"fakecode.{name}" for name in names} <= set(found) and "fakecode.unrelated" not in found
    assert set(found) - {f"fakecode.{name}" for name in names} <= {"fakecode"}
    assert found["fakecode.sub.deep"] == fake / "sub" / "deep.py"


def test_nothing_is_imported(fake: Path) -> None:
    before = set(sys.modules)
    code.digest("fakecode.stage")  # every module of it would raise
    assert not {name for name in set(sys.modules) - before if name.startswith("fakecode")}


@pytest.mark.parametrize("name", USED)
def test_a_change_in_a_used_module_changes_the_digest(fake: Path, name: str) -> None:
    before = code.digest("fakecode.stage")
    assert code.digest("fakecode.stage") == before
    (fake / name).write_text(FAKE[name] + "# a comment\n")
    assert code.digest("fakecode.stage") != before
    (fake / name).write_text(FAKE[name])
    assert code.digest("fakecode.stage") == before


def test_a_change_elsewhere_does_not(fake: Path) -> None:
    before = code.digest("fakecode.stage")
    (fake / "unrelated.py").write_text("x = 1\n")
    (fake / "added.py").write_text("x = 1\n")
    (fake / "schema.pbtxt").write_text("feature {}")
    assert code.digest("fakecode.stage") == before
    (fake / "plain.py").write_text(BOMB + "import fakecode.added\n")
    assert code.digest("fakecode.stage") != before


def test_no_module_has_the_digest_of_nothing_and_order_does_not_count(fake: Path) -> None:
    assert code.digest() == code.digest() != code.digest("fakecode.plain")
    assert code.digest("fakecode.plain", "fakecode.named") == code.digest("fakecode.named", "fakecode.plain")
    assert code.closure("fakecode.nowhere") == {} or set(code.closure("fakecode.nowhere")) == {"fakecode"}


def test_libraries_are_not_read(fake: Path) -> None:
    assert {name.split(".")[0] for name in code.closure("fakecode.stage")} == {"fakecode"}
    assert {name.split(".")[0] for name in code.closure("components.lite_exporter")} <= code.OURS


def test_our_own_modules_import_in_the_ways_that_are_followed() -> None:
    """A relative import or one by a computed name would be invisible to the digest."""
    import ast

    for path in (path for top in sorted(code.OURS) for path in (REPOSITORY / top).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}:{node.lineno} is relative"


# From here on: the real graph.


@pytest.fixture(scope="module")
def stages() -> dict[str, dict[str, tuple[str, ...]]]:
    """Case to node id to the modules that the graph names for it, in the order of the graph."""
    from models.catalog import CASES
    from pipeline import graph
    from pipeline.session import Plan

    decided = {"image": {"classes": "a,b", "height": 8, "width": 8, "channels": 1}}
    found = {}
    for name, case in CASES.items():
        settings = case.configured({})
        settings["data"] |= decided.get(name, {"first_day": 0, "last_day": 89})
        plan = Plan(case, "/nowhere", 0, 0, settings, "schema.pbtxt", "", "/nowhere/versions", "0")
        found[name] = {stage.node.id: stage.modules for stage in graph.build(plan)}
    return found


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The source tree of our packages, to be changed."""
    for top in code.OURS:
        shutil.copytree(REPOSITORY / top, tmp_path / top, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def digests(tree: Path, stages: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """The digest of every stage over that tree, taken by a process that has no other tree before it on its path."""
    program = (
        "import json, sys; from pipeline import code; assert code.__file__.startswith(sys.argv[1]);"
        "print(json.dumps({k: code.digest(*v) for k, v in json.loads(sys.argv[2]).items()}));"
        "assert not {'tensorflow', 'tfx', 'keras', 'numpy', 'models'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", program, str(tree), json.dumps(stages)]
    return json.loads(subprocess.run(command, cwd=tree, check=True, capture_output=True, text=True).stdout)


def changed(copy: Path, stages: dict[str, tuple[str, ...]], *names: str) -> set[str]:
    """The stages whose digest changes with these files."""
    before = digests(copy, stages)
    for name in names:
        (copy / name).write_text((copy / name).read_text() + "\n# changed\n")
    after = digests(copy, stages)
    return {stage for stage in stages if before[stage] != after[stage]}


def test_the_model_invalidates_training_and_what_reads_the_model_module(stages: dict, copy: Path) -> None:
    order = list(stages["image"])
    found = changed(copy, stages["image"], "models/image/model.py")
    assert "Trainer" in found and found <= {"Trainer", "Baseline", "LiteExporter"}
    assert min(order.index(name) for name in found) == order.index("Trainer")
    assert order.index("SpanExampleGen") < order.index("Transform") < order.index("Trainer")


@pytest.mark.parametrize(
    ("case", "file", "expected"),
    [
        ("image", "models/image/features.py", {"Transform"}),
        ("image", "models/image/readers.py", {"SpanExampleGen"}),
        ("image", "models/image/evaluation.py", {"Evaluator"}),
        ("image", "models/training.py", {"Trainer"}),
        ("image", "models/export.py", {"Trainer"}),
        ("image", "components/data_gate.py", {"DataGate"}),
        ("image", "components/versioned_pusher.py", {"Pusher"}),
        ("image", "components/serving_check.py", {"ServingCheck"}),
        ("image", "models/fraud/model.py", set()),
        ("image", "models/fraud/data.py", set()),
        ("image", "pipeline/command.py", set()),
        ("fraud", "models/fraud/history.py", {"SpanExampleGen"}),
        ("fraud", "models/image/model.py", set()),
    ],
)
def test_a_file_invalidates_its_stages_and_no_other(
    stages: dict, copy: Path, case: str, file: str, expected: set[str]
) -> None:
    assert changed(copy, stages[case], file) == expected


def test_every_stage_of_ours_names_code_and_every_name_is_a_file(stages: dict) -> None:
    stock = {"StatisticsGen", "ExampleValidator", "Resolver"}
    for case, nodes in stages.items():
        assert {name for name, modules in nodes.items() if not modules} == stock, case
        for modules in nodes.values():
            assert set(modules) <= set(code.closure(*modules))


def test_what_a_stage_starts_as_a_program_of_its_own_counts_too(stages: dict, copy: Path) -> None:
    assert changed(copy, stages["image"], "serving/session_load.py") == {"ServingCheck"}


def test_the_fingerprint_of_a_run_covers_the_code_of_every_stage(stages: dict) -> None:
    """What ``Plan.fingerprint`` hashes, against what the stages hash."""
    for case, nodes in stages.items():
        parts = [f"models.{case}.{part}" for part in ("data", "features", "model", "evaluation", "sentences")]
        whole = set(code.closure("pipeline.graph", "models.training", *parts))
        assert whole >= {name for modules in nodes.values() for name in code.closure(*modules)}
        assert "serving.session_load" in whole
