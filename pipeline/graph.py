"""The one graph, as plain wiring."""

from pipeline import stages
from pipeline.session import Plan
from pipeline.stages import Stage


def build(plan: Plan) -> list[Stage]:
    """All stages of a run, upstream before downstream."""
    schema = stages.schema(plan)
    examples = stages.example_gen(plan)
    statistics = stages.statistics_gen(plan, examples["examples"], schema["schema"])
    anomalies = stages.example_validator(plan, statistics["statistics"], schema["schema"])
    gate = stages.gate(plan, anomalies["anomalies"])
    transform = stages.transform(plan, examples["examples"], schema["schema"], gate)
    trainer = stages.trainer(plan, examples["examples"], transform["transform_graph"], schema["schema"])
    baseline = stages.baselines(plan, examples["examples"], transform["transform_graph"], trainer["model"])
    blessed = stages.resolver(plan)
    evaluator = stages.evaluator(plan, examples["examples"], trainer["model"], blessed["model"], schema["schema"])
    lite = stages.lite(plan, examples["examples"], transform["transform_graph"], trainer["model"])
    serving = stages.serving(plan, examples["examples"], trainer["model"], lite["lite_model"])
    pusher = stages.pusher(plan, evaluator["blessing"], serving["blessing"])
    return [
        schema, examples, statistics, anomalies, gate, transform, trainer,
        blessed, evaluator, lite, baseline, serving, pusher,
    ]  # fmt: skip


def draft(plan: Plan) -> list[Stage]:
    """The stages that help to write a schema for new data."""
    examples = stages.example_gen(plan)
    statistics = stages.statistics_gen(plan, examples["examples"])
    return [examples, statistics, stages.schema_gen(plan, statistics["statistics"])]
