"""The one graph, as plain wiring.

Question: B1
Answer: When the way to production counts more than the newest research: TFX checks data and ships preprocessing inside the
    model, TensorFlow Serving and LiteRT run it on servers, phones and in browsers, tf.distribute trains it on many
    machines and TPUs. PyTorch leads research, has most new models, and its own ways to serve and export have grown up.
    Keras 3 runs on TensorFlow, JAX and PyTorch, so the network need not decide; the pipeline around it does.
Evidence: tour.evidence.ecosystem.surface
Proof: tests/tour/evidence/test_ecosystem.py::test_another_backend_gives_the_served_networks_answers
"""

from pipeline import stages
from pipeline.plan import Plan
from pipeline.stages import Stage


def build(plan: Plan) -> list[Stage]:
    """All stages of a run, upstream before downstream.

    Question: A15
    Answer: Spans become shards of tf.Example; their statistics are checked against the schema, and a gate stops bad
        data. Transform learns its graph on the train split, the Trainer fits on batches of transformed tensors, the
        Evaluator compares with the blessed model, the Pusher publishes. Stages hand over artifacts, and the metadata
        store records which came from which. The transform graph ships with the model, so training and serving cannot
        differ.
    Evidence: tour.evidence.overview.lineage_of_served
    Proof: tests/tour/evidence/test_claims.py::test_lineage_leads_from_the_pushed_model_to_its_spans_and_to_nothing_else
    """
    schema = stages.schema(plan)
    examples = stages.example_gen(plan)
    statistics = stages.statistics_gen(plan, examples["examples"], schema["schema"])
    anomalies = stages.example_validator(plan, statistics["statistics"], schema["schema"])
    gate = stages.gate(plan, anomalies["anomalies"])
    transform = stages.transform(plan, examples["examples"], schema["schema"])
    embedding = stages.embedding(plan, examples["examples"])
    tuner = stages.tuner(plan, examples["examples"], transform["transform_graph"], schema["schema"], gate)
    trainer = stages.trainer(
        plan, examples["examples"], transform["transform_graph"], schema["schema"], gate, embedding, tuner
    )
    fit = stages.fit(plan, trainer["model_run"])
    baseline = stages.baselines(
        plan, examples["examples"], transform["transform_graph"], trainer["model"], trainer["model_run"]
    )
    blessed = stages.resolver(plan)
    evaluator = stages.evaluator(
        plan, examples["examples"], trainer["model"], blessed["model"], schema["evaluation_schema"], fit
    )
    lite = stages.lite(plan, examples["examples"], transform["transform_graph"], trainer["model"])
    normal = stages.normality(plan, examples["examples"], transform["transform_graph"], trainer["model"])
    serving = stages.serving(
        plan,
        examples["examples"],
        transform["transform_graph"],
        trainer["model"],
        lite["lite_model"],
        statistics["statistics"],
        normal["normal"],
    )
    pusher = stages.pusher(plan, evaluator["blessing"], serving["blessing"])
    built = [
        schema,
        examples,
        statistics,
        transform,
        embedding,
        anomalies,
        gate,
        tuner,
        trainer,
        fit,
        blessed,
        evaluator,
        lite,
        baseline,
        normal,
        serving,
        pusher,
    ]
    return [stage for stage in built if stage]  # not every case and run has every stage


def draft(plan: Plan) -> list[Stage]:
    """The stages that help to write a schema for new data."""
    examples = stages.example_gen(plan)
    statistics = stages.statistics_gen(plan, examples["examples"])
    return [examples, statistics, stages.schema_gen(plan, statistics["statistics"])]
