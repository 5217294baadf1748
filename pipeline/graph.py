"""Wire the pipeline's stages into the training graph.

Question: B1
Answer: I choose TensorFlow when the path to production matters more than the newest research. TFX validates data and ships
    preprocessing inside the model, TensorFlow Serving and LiteRT run it on servers, phones and in browsers, and
    tf.distribute trains on many machines or TPUs. The trade-off: PyTorch leads in research and new models, and its
    serving and export tools have matured. Keras 3 runs on TensorFlow, JAX and PyTorch, so here the pipeline around the
    network decides, not the network.
Evidence: tour.evidence.ecosystem.production_work
Proof: tests/tour/evidence/test_ecosystem.py::test_another_backend_gives_the_served_networks_answers
"""

from pipeline import stages
from pipeline.plan import Plan
from pipeline.stages import Stage


def build(plan: Plan) -> list[Stage]:
    """Return all stages of a run, upstream before downstream.

    Question: A15
    Answer: ExampleGen turns raw spans into shards of tf.Example; their statistics are checked against the schema, and a
        gate stops bad data. Transform learns its graph on the train split, the Trainer fits on transformed batches, the
        Evaluator compares the candidate with the blessed model, and the Pusher publishes it. Stages exchange artifacts,
        and the metadata store records their lineage. The transform graph ships inside the model, so preprocessing is
        the same in training and serving.
    Evidence: tour.evidence.overview.lineage_of_served
    Proof: tests/tour/evidence/test_claims.py::test_lineage_leads_from_the_pushed_model_to_its_spans_and_to_nothing_else
    """
    schema = stages.schema(plan)
    examples = stages.example_gen(plan)
    statistics = stages.statistics_gen(plan, examples["examples"], schema["schema"])
    anomalies = stages.example_validator(plan, statistics["statistics"], schema["schema"])
    data_gate = stages.anomaly_gate(plan, anomalies["anomalies"])
    transform = stages.transform(plan, examples["examples"], schema["schema"])
    embedding = stages.embedding(plan, examples["examples"])
    tuner = stages.tuner(plan, examples["examples"], transform["transform_graph"], schema["schema"], data_gate)
    trainer = stages.trainer(
        plan, examples["examples"], transform["transform_graph"], schema["schema"], data_gate, embedding, tuner
    )
    fit_gate = stages.overfitting_gate(plan, trainer["model_run"])
    baseline = stages.baselines(
        plan, examples["examples"], transform["transform_graph"], trainer["model"], trainer["model_run"]
    )
    blessed = stages.resolver(plan)
    evaluator = stages.evaluator(
        plan, examples["examples"], trainer["model"], blessed["model"], schema["evaluation_schema"], fit_gate
    )
    lite = stages.lite_export(plan, examples["examples"], transform["transform_graph"], trainer["model"])
    reference_profile = stages.reference_profile(
        plan, examples["examples"], transform["transform_graph"], trainer["model"]
    )
    serving = stages.serving(
        plan,
        examples["examples"],
        transform["transform_graph"],
        trainer["model"],
        lite["lite_model"],
        statistics["statistics"],
        reference_profile["normal"],
    )
    pusher = stages.pusher(plan, evaluator["blessing"], serving["blessing"])
    all_stages = [
        schema,
        examples,
        statistics,
        transform,
        embedding,
        anomalies,
        data_gate,
        tuner,
        trainer,
        fit_gate,
        blessed,
        evaluator,
        lite,
        baseline,
        reference_profile,
        serving,
        pusher,
    ]
    return [stage for stage in all_stages if stage]  # optional stages are None


def build_schema_draft(plan: Plan) -> list[Stage]:
    """Return the stages that infer a schema draft for new data."""
    examples = stages.example_gen(plan)
    statistics = stages.statistics_gen(plan, examples["examples"])
    return [examples, statistics, stages.schema_gen(plan, statistics["statistics"])]
