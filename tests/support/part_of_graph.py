"""Run only some stages of the graph, for tests of these stages.

Usage: python -m tests.support.part_of_graph beam:MODEL|trainer WORDS...

It runs ``showcase WORDS`` with a part of the graph; the run counts as pushed if all its stages succeed. A test starts it
through the command server; it imports no other test code.
"""

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any


def build_beam_stages(model: str, plan: Any) -> list[Any]:
    """Build the stages that use Beam: from ExampleGen to Transform, and an Evaluator of an existing model."""
    from tfx.dsl.components.common.importer import Importer
    from tfx.types import standard_artifacts

    from pipeline import stages

    schema, examples, blessed = stages.schema(plan), stages.example_gen(plan), stages.resolver(plan)
    statistics = stages.statistics_gen(plan, examples["examples"], schema["schema"])
    anomalies = stages.example_validator(plan, statistics["statistics"], schema["schema"])
    transform = stages.transform(plan, examples["examples"], schema["schema"])
    trained = stages.Stage(Importer(model, standard_artifacts.Model, output_key="model").with_id("Trainer"))
    evaluator = stages.evaluator(
        plan, examples["examples"], trained["model"], blessed["model"], schema["evaluation_schema"], trained
    )
    return [schema, examples, blessed, statistics, anomalies, transform, trained, evaluator]


def build_until_trainer(plan: Any) -> list[Any]:
    """Build the Trainer and the stages whose outputs it reads."""
    from pipeline import stages

    schema, examples = stages.schema(plan), stages.example_gen(plan)
    transform = stages.transform(plan, examples["examples"], schema["schema"])
    embedding = stages.embedding(plan, examples["examples"])
    trainer = stages.trainer(
        plan, examples["examples"], transform["transform_graph"], schema["schema"], transform, embedding
    )
    return [stage for stage in (schema, examples, transform, embedding, trainer) if stage]


def judge(runtime: Any, run_id: str, progress: Mapping[str, Any], plan: Any) -> tuple[str, str, dict[str, str]]:
    """Replace ``pipeline.outcome.summarize_outcome``, which reads stages that are not in the part."""
    failures = [f"{name}: {stage.message}" for name, stage in progress.items() if stage.state not in ("done", "cached")]
    return ("failed", failures[0], {}) if failures else ("pushed", "all stages of the part ran", {})


if __name__ == "__main__":
    from cli import main
    from pipeline import graph, outcome

    part, *words = sys.argv[1:]
    name, _, model = part.partition(":")
    graph.build = partial(build_beam_stages, model) if name == "beam" else build_until_trainer
    outcome.summarize_outcome = judge
    sys.argv[:] = ["showcase", *words]
    main.main()
