"""Stage builders: each function builds one node of the graph from its upstream outputs.

Question: A1
Answer: TensorFlow is a library for tensor computation with automatic differentiation, compiled graphs and distribution
    over devices. In production it is an ecosystem: TFDV validates data, Transform learns preprocessing that ships with
    the model, Keras builds and trains the network, TFMA evaluates it, TFX orchestrates, and TensorFlow Serving or
    LiteRT serve it. The trade-off is many libraries to keep compatible. In this graph each node names the libraries
    it uses.
Evidence: tour.evidence.overview.libraries_of_run
Proof: tests/tour/evidence/test_claims.py::test_every_node_stands_on_a_library_and_is_joined
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from tensorflow_model_analysis.proto import config_pb2
from tfx.components.evaluator.component import Evaluator
from tfx.components.example_validator.component import ExampleValidator
from tfx.components.pusher.component import Pusher
from tfx.components.schema_gen.component import SchemaGen
from tfx.components.statistics_gen.component import StatisticsGen
from tfx.components.transform.component import Transform
from tfx.dsl.components.base import base_node, executor_spec
from tfx.dsl.components.common.importer import Importer
from tfx.dsl.components.common.resolver import Resolver
from tfx.dsl.input_resolution.strategies.latest_blessed_model_strategy import LatestBlessedModelStrategy
from tfx.proto import pusher_pb2, trainer_pb2, transform_pb2
from tfx.types import Channel, standard_artifacts

from components.training import (
    baseline,
    curated_schema,
    data_gate,
    extended_trainer,
    fit_gate,
    reference_profiler,
    sequence_embedding,
    serving_check,
    span_example_gen,
    versioned_pusher,
)
from components.training.edge import lite_exporter
from pipeline import cache_key
from pipeline.plan import Plan
from pipeline.refresh import RefreshBase


@dataclass(frozen=True)
class Stage:
    """A node of the graph and the names of our modules whose code determines its result."""

    node: base_node.BaseNode
    modules: tuple[str, ...] = ()

    def __getitem__(self, key: str) -> Channel:
        return self.node.outputs[key]


def example_gen(plan: Plan) -> Stage:
    """Read the window of spans and write sharded examples by split."""
    node = span_example_gen.create_example_gen(plan.source, plan.first, plan.last, plan.config("data"))
    return Stage(node, ("components.training.span_example_gen", plan.case.module("data")))


def statistics_gen(plan: Plan, examples: Channel, schema: Channel | None = None) -> Stage:
    """Compute statistics of every feature of every split."""
    # Imported after TFX, because TFDV needs a compatibility module that TFX installs.
    from tensorflow_data_validation import StatsOptions

    # Exact counts of distinct strings shuffle every value through Beam; sketches took half the time.
    options = StatsOptions(experimental_use_sketch_based_topk_uniques=True)
    return Stage(StatisticsGen(examples=examples, schema=schema, stats_options=options))


def schema_gen(plan: Plan, statistics: Channel) -> Stage:
    """Infer a schema as a draft for manual curation; a training run does not use it."""
    return Stage(SchemaGen(statistics=statistics, exclude_splits=["valid", "eval"]))


def schema(plan: Plan) -> Stage:
    """Import the curated schema."""
    slices = {key for spec in _eval_config(plan).slicing_specs for key in spec.feature_keys}
    node = curated_schema.CuratedSchema(text=plan.schema, evaluated=",".join(sorted({plan.case.label, *slices})))
    return Stage(node, ("components.training.curated_schema",))


def example_validator(plan: Plan, statistics: Channel, schema: Channel) -> Stage:
    """Compare the statistics with the schema and report anomalies."""
    return Stage(ExampleValidator(statistics=statistics, schema=schema))


def anomaly_gate(plan: Plan, anomalies: Channel) -> Stage:
    """Stop the run if there is any anomaly."""
    return Stage(data_gate.DataGate(anomalies=anomalies), ("components.training.data_gate",))


def transform(plan: Plan, examples: Channel, schema: Channel) -> Stage:
    """Learn scales, vocabularies, buckets and principal components from the train split, as a TensorFlow graph.

    A refresh imports the served model's transform graph, because its weights are valid only for that graph.
    """
    if plan.base:
        return _import_artifact(plan.base, "Transform", standard_artifacts.TransformGraph, "transform_graph")
    node = Transform(
        examples=examples,
        schema=schema,
        preprocessing_fn=f"{plan.case.module('features')}.preprocessing_fn",
        splits_config=transform_pb2.SplitsConfig(analyze=["train"], transform=[]),
        # Consumers apply the transform graph themselves, so transformed examples need not be stored.
        materialize=False,
        disable_analyzer_cache=True,
        disable_statistics=True,
        custom_config=plan.config("data"),
    )
    return Stage(node, (plan.case.module("features"),))


def embedding(plan: Plan, examples: Channel) -> Stage | None:
    """Learn embedding vectors for the tokens of the case's sequences; None for a case without ``sentences.py``."""
    if not plan.case.has("sentences"):
        return None
    if plan.base:
        return _import_artifact(plan.base, "SkipGram", sequence_embedding.Embedding, "embedding")
    node = sequence_embedding.SkipGram(examples=examples, config=_to_json(plan.config("embedding")))
    return Stage(node, ("components.training.sequence_embedding", plan.case.module("sentences")))


def tuner(plan: Plan, examples: Channel, transform: Channel, schema: Channel, gate: Stage) -> Stage | None:
    """Search for better training settings; None for a run without tuning."""
    if not plan.space:
        return None
    from components.training.tuner import Tuner  # imports KerasTuner, which runs without tuning do not need

    node = Tuner(
        tuner_fn="models.training.model_selection.tuning.tuner_fn",
        examples=examples,
        transform_graph=transform,
        schema=schema,
        train_args=trainer_pb2.TrainArgs(splits=["train"]),
        eval_args=trainer_pb2.EvalArgs(splits=["valid"]),
        custom_config=plan.config("data", "training") | {"space": dict(plan.space)},
    )
    node.add_upstream_node(gate.node)
    return Stage(
        node, ("components.training.tuner", "models.training.model_selection.tuning", plan.case.module("model"))
    )


def trainer(
    plan: Plan,
    examples: Channel,
    transform: Channel,
    schema: Channel,
    gate: Stage,
    embedding: Stage | None = None,
    tuner: Stage | None = None,
) -> Stage:
    """Train the network, with the Tuner's best settings if there is a Tuner, and export it with its transform graph."""
    modules = ("components.training.extended_trainer", "models.training.entry_point", plan.case.module("model"))
    config = plan.config("data", "training") | ({"base": plan.base.weights} if plan.base else {})
    node = extended_trainer.Trainer(
        pretrained=embedding and embedding["embedding"],
        run_fn="models.training.entry_point.run_fn",
        examples=examples,
        transform_graph=transform,
        schema=schema,
        hyperparameters=tuner["best_hyperparameters"] if tuner else None,
        train_args=trainer_pb2.TrainArgs(splits=["train"]),
        eval_args=trainer_pb2.EvalArgs(splits=["valid"]),
        custom_config=config | {"code": cache_key.digest(*modules)},  # names the checkpoints of this code
    )
    # Transform runs in parallel with the data checks; its output is used only after the gate has passed.
    node.add_upstream_node(gate.node)
    return Stage(node, modules)


def _import_artifact(base: RefreshBase, name: str, kind: type, key: str) -> Stage:
    return Stage(Importer(base.artifacts[key], kind, output_key=key).with_id(name))


def overfitting_gate(plan: Plan, model_run: Channel) -> Stage:
    """Stop the run if the overfitting gap is too large."""
    node = fit_gate.FitGate(model_run=model_run, config=_to_json(plan.config("gates")))
    return Stage(node, ("components.training.fit_gate",))


def baselines(plan: Plan, examples: Channel, transform: Channel, model: Channel, model_run: Channel) -> Stage:
    """Fit simple models on the same transformed features and compare all models on the Evaluator's slices and split."""
    specs = [json_format.MessageToDict(spec) for spec in _eval_config(plan).slicing_specs]
    node = baseline.Baseline(
        examples=examples,
        transform_graph=transform,
        model=model,
        model_run=model_run,
        config=_to_json({**plan.config("data"), "slices": specs, "daily_reviews": _get_daily_reviews(plan)}),
    )
    return Stage(node, ("components.training.baseline", plan.case.module("model")))


def _get_daily_reviews(plan: Plan) -> int:
    """Return the reviews a day; 0 for a case whose positives are not reviewed."""
    return plan.settings["gates"]["daily_reviews"] if plan.case.card else 0


def resolver(plan: Plan) -> Stage:
    """Resolve the latest blessed model."""
    node = Resolver(
        strategy_class=LatestBlessedModelStrategy,
        model=Channel(type=standard_artifacts.Model),
        model_blessing=Channel(type=standard_artifacts.ModelBlessing),
    ).with_id("Resolver")
    return Stage(node)


def evaluator(plan: Plan, examples: Channel, model: Channel, blessed: Channel, schema: Channel, fit: Stage) -> Stage:
    """Evaluate the candidate by slice, against absolute bounds and against the blessed model."""
    node = Evaluator(
        examples=examples,
        model=model,
        baseline_model=blessed,
        schema=schema,
        eval_config=_eval_config(plan),
        example_splits=["eval"],
    )
    # A model that the gate refuses must not be blessed, because the next run would be compared with it.
    node.add_upstream_node(fit.node)
    return Stage(node, (plan.case.module("evaluation"),))


def lite_export(plan: Plan, examples: Channel, transform: Channel, model: Channel) -> Stage:
    """Convert the dense signature to LiteRT; a variant passes only if its outputs match the model's."""
    node = lite_exporter.LiteExporter(
        examples=examples, transform_graph=transform, model=model, config=_to_json(plan.config("gates"))
    )
    return Stage(node, ("components.training.edge.lite_exporter", plan.case.module("model")))


def reference_profile(plan: Plan, examples: Channel, transform: Channel, model: Channel) -> Stage:
    """Compute the reference profile, against which drift of served rows is measured."""
    config = plan.config("data") | plan.case.watched_inputs  # read by the stage itself; included for its cache key
    node = reference_profiler.Normal(examples=examples, transform_graph=transform, model=model, config=_to_json(config))
    return Stage(node, ("components.training.reference_profiler",))


def serving(
    plan: Plan,
    examples: Channel,
    transform: Channel,
    model: Channel,
    lite_model: Channel,
    statistics: Channel,
    reference_profile: Channel,
) -> Stage:
    """Load the export in a fresh process as the model server does, and compare its outputs."""
    node = serving_check.ServingCheck(
        examples=examples,
        transform_graph=transform,
        model=model,
        lite_model=lite_model,
        statistics=statistics,
        normal=reference_profile,
    )
    return Stage(node, ("components.training.serving_check",))


def pusher(plan: Plan, blessing: Channel, infra_blessing: Channel) -> Stage:
    """Copy a blessed model into the folder that the model server watches."""
    node = Pusher(
        model_blessing=blessing,
        infra_blessing=infra_blessing,
        push_destination=pusher_pb2.PushDestination(filesystem={"base_directory": plan.versions}),
        custom_executor_spec=executor_spec.ExecutorClassSpec(versioned_pusher.Executor),
    )
    return Stage(node, ("components.training.versioned_pusher",))


def _eval_config(plan: Plan) -> config_pb2.EvalConfig:
    return plan.case.load("evaluation").eval_config(plan.config("training", "gates")["settings"])


def _to_json(config: Mapping[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)
