"""Runs of some stages of the graph, for tests that are about these.

Usage: python -m tests.support.part_of_graph beam:MODEL|trainer WORDS...

Runs ``showcase WORDS`` with a part of the graph in place of the whole; it counts as pushed if each stage ended well. A test
starts it through the command server; it imports nothing of the tests.
"""

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any


def build_beam_stages(model: str, plan: Any) -> list[Any]:
    """The stages whose work Beam carries: from ExampleGen to Transform, and an Evaluator of a model that there is."""
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
    """The Trainer and the stages whose outputs it reads."""
    from pipeline import stages

    schema, examples = stages.schema(plan), stages.example_gen(plan)
    transform = stages.transform(plan, examples["examples"], schema["schema"])
    embedding = stages.embedding(plan, examples["examples"])
    trainer = stages.trainer(
        plan, examples["examples"], transform["transform_graph"], schema["schema"], transform, embedding
    )
    return [stage for stage in (schema, examples, transform, embedding, trainer) if stage]


def judge(runtime: Any, run_id: str, progress: Mapping[str, Any], plan: Any) -> tuple[str, str, dict[str, str]]:
    """In place of the verdict, which looks at stages that are not in the part."""
    broken = [f"{name}: {one.message}" for name, one in progress.items() if one.state not in ("done", "cached")]
    return ("failed", broken[0], {}) if broken else ("pushed", "all stages of the part ran", {})


if __name__ == "__main__":
    from cli import main
    from pipeline import graph, outcome

    part, *words = sys.argv[1:]
    name, _, model = part.partition(":")
    graph.build = partial(build_beam_stages, model) if name == "beam" else build_until_trainer
    outcome.of = judge
    sys.argv[:] = ["showcase", *words]
    main.main()
