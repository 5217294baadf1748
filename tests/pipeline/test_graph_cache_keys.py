"""Cache keys of the real graph: a code change affects the stages that use the code; a change of wording affects none.

A stage's cache key contains the digest of its modules, a run's fingerprint that of all stages, and the name of a training's
checkpoint folder that of the Trainer.
"""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.command import ROOT
from support.wording import reword

from models.catalog import CASES
from models.training.distribute.job import TrainingJob
from pipeline import cache_key
from pipeline.plan import Plan


def make_plan(name: str) -> Plan:
    data_settings = {"image": {"classes": ["a", "b"], "height": 8, "width": 8, "channels": 1}}
    settings = CASES[name].configure({})
    settings["data"] |= data_settings.get(name, {"first_day": 0, "last_day": 89})
    return Plan(
        case=CASES[name],
        source="/nowhere",
        first=0,
        last=0,
        settings=settings,
        schema="",
        versions="/nowhere/versions",
        data_version="0",
    )


@pytest.fixture(scope="module")
def stages() -> dict[str, dict[str, tuple[str, ...]]]:
    """The modules of every node by case and node id, in the order of the graph."""
    from pipeline import graph

    return {name: {stage.node.id: stage.modules for stage in graph.build(make_plan(name))} for name in CASES}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of our packages, from which digests are computed."""
    for top in cache_key.OURS:
        shutil.copytree(ROOT / top, tmp_path / top, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    monkeypatch.setattr(cache_key, "find_spec", lambda top: SimpleNamespace(origin=str(tmp_path / top / "__init__.py")))
    return tmp_path


def compute_keys(case: str, stages: dict[str, dict[str, tuple[str, ...]]]) -> dict[str, str]:
    """Return the digests of all stages, and under ``run`` the fingerprint of the run."""
    plan = make_plan(case)
    return {name: cache_key.digest(*modules) for name, modules in stages[case].items()} | {"run": plan.fingerprint()}


def find_changed_keys(case: str, stages: dict[str, dict[str, tuple[str, ...]]], edit: Callable[[], object]) -> set[str]:
    """Return the stages whose digest changes with an edit, and ``run`` if the fingerprint changes."""
    before = compute_keys(case, stages)
    edit()
    after = compute_keys(case, stages)
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize("case", CASES)
def test_rewording_all_modules_changes_no_key(stages: dict, tree: Path, case: str) -> None:
    def edit() -> None:
        files = [path for top in cache_key.OURS for path in (tree / top).rglob("*.py")]
        assert len(files) > 100
        for path in files:
            reword(path)

    assert find_changed_keys(case, stages, edit) == set()


class CodeChange(ast.NodeTransformer):
    """Changes the first numeric constant, operator, default value or called function."""

    def __init__(self, kind: str) -> None:
        self.kind, self.done = kind, False

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if self.kind == "constant" and not self.done and type(node.value) in (int, float):
            self.done = True
            return ast.Constant(node.value + 1)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        if self.kind == "operator" and not self.done:
            self.done = True
            return ast.BinOp(node.left, ast.Pow(), node.right)
        return self.generic_visit(node)

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        if self.kind == "default" and not self.done and node.defaults:
            self.done = True
            node.defaults[-1] = ast.Constant("another default")
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if self.kind == "call" and not self.done:
            self.done = True
            return ast.Call(ast.Name("another_function"), node.args, node.keywords)
        return self.generic_visit(node)


def change_code(path: Path, kind: str) -> None:
    """Change the code of a module."""
    fault = CodeChange(kind)
    module = ast.parse(path.read_text())
    path.write_text(ast.unparse(ast.fix_missing_locations(fault.visit(module))))
    assert fault.done, f"{path.name} has no {kind}"


@pytest.mark.parametrize(
    ("case", "file", "kind", "expected"),
    [
        ("image", "models/image/features.py", "call", {"Transform"}),
        ("image", "models/image/raw/readers.py", "constant", {"SpanExampleGen"}),
        ("image", "models/image/evaluation.py", "call", {"Evaluator"}),
        ("image", "models/training/entry_point.py", "default", {"Trainer"}),
        ("image", "models/training/optimizers.py", "constant", {"Trainer"}),
        ("image", "models/saved_model/export.py", "operator", {"Trainer"}),
        ("image", "components/training/data_gate.py", "operator", {"DataGate"}),
        ("image", "components/training/versioned_pusher.py", "call", {"Pusher"}),
        ("image", "components/training/serving_check.py", "constant", {"ServingCheck"}),
        ("image", "serving/session_load.py", "call", {"ServingCheck"}),  # runs as a separate program
        ("fraud", "models/fraud/history/point_in_time.py", "operator", {"SpanExampleGen"}),
    ],
)
def test_code_change_reruns_the_stages_that_use_the_file(
    stages: dict, tree: Path, case: str, file: str, kind: str, expected: set[str]
) -> None:
    name = file.removesuffix(".py").replace("/", ".")
    reaching = {stage for stage, modules in stages[case].items() if name in cache_key.closure(*modules)}
    assert (
        find_changed_keys(case, stages, lambda: change_code(tree / file, kind))
        == reaching | {"run"}
        == expected | {"run"}
    )


@pytest.mark.parametrize(
    ("case", "file"),
    [
        ("image", "models/fraud/model.py"),
        ("image", "models/fraud/data.py"),
        ("image", "pipeline/online/rollouts.py"),
        ("fraud", "models/image/model.py"),
    ],
)
def test_code_change_in_an_unused_file_changes_no_key(stages: dict, tree: Path, case: str, file: str) -> None:
    assert find_changed_keys(case, stages, lambda: change_code(tree / file, "call")) == set()


def test_change_of_the_model_reruns_training_and_later_users_only(stages: dict, tree: Path) -> None:
    order = list(stages["image"])
    rerun = find_changed_keys("image", stages, lambda: change_code(tree / "models/image/model.py", "call"))
    assert {"Trainer", "run"} <= rerun <= {"Trainer", "Baseline", "LiteExporter", "run"}
    assert order.index("SpanExampleGen") < order.index("Transform") < order.index("Trainer")


@pytest.mark.parametrize(
    ("file", "lost"),
    [
        ("models/image/model.py", True),
        ("models/training/loop.py", True),
        ("models/fraud/model.py", False),
        ("serving/http/asyncio_server.py", False),
    ],
)
def test_checkpoint_folder_changes_with_training_code_only(tree: Path, tmp_path: Path, file: str, lost: bool) -> None:
    before = find_checkpoint_folder("image", tmp_path)
    reword(tree / file)
    assert find_checkpoint_folder("image", tmp_path) == before
    change_code(tree / file, "call")
    assert (find_checkpoint_folder("image", tmp_path) != before) is lost


def find_checkpoint_folder(case: str, folder: Path) -> str:
    """Return the checkpoint folder of a run's Trainer."""
    from pipeline import graph

    trainer = next(stage.node for stage in graph.build(make_plan(case)) if stage.node.id == "Trainer")
    config = json.loads(trainer.exec_properties["custom_config"])
    files = [str(folder / "examples" / "Split-train" / "part")]
    run = str(folder / "Trainer" / "model_run" / "7")
    fn_args = SimpleNamespace(
        custom_config=config, hyperparameters=None, transform_graph_path="/graph", train_files=files, model_run_dir=run
    )
    return TrainingJob.of(fn_args).folder


@pytest.mark.system
def test_digest_does_not_import_tensorflow_or_tfx() -> None:
    program = (
        "import sys; from pipeline import cache_key; cache_key.digest('pipeline.graph', 'models.training.entry_point');"
        "assert not {'tensorflow', 'tfx', 'keras', 'numpy', 'models'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_custom_stages_name_modules_that_exist(stages: dict) -> None:
    stock_components = {"StatisticsGen", "ExampleValidator", "Resolver"}
    for case, nodes in stages.items():
        assert {name for name, modules in nodes.items() if not modules} == stock_components, case
        for modules in nodes.values():
            assert set(modules) <= set(cache_key.closure(*modules))


def test_fingerprint_of_a_run_covers_the_code_of_every_stage(stages: dict) -> None:
    """The modules hashed by ``Plan.fingerprint`` include those of every stage."""
    for case, nodes in stages.items():
        parts = [f"models.{case}.{part}" for part in ("data", "features", "model", "evaluation", "sentences")]
        covered = set(cache_key.closure("pipeline.graph", "models.training.entry_point", *parts))
        assert covered >= {name for modules in nodes.values() for name in cache_key.closure(*modules)}
        assert "serving.session_load" in covered
