"""The gateway's OpenAPI document, made from the models that check requests."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field, create_model
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from serving.gateway.late_labels import AllLabelled, Label, Labelled, Labels
from serving.gateway.use_case_interface import Online

REF = "#/components/schemas/{model}"
TRACEPARENT = {
    "name": "traceparent",
    "in": "header",
    "required": False,
    "description": "W3C trace context; comes back in the answer and goes to the log.",
    "schema": {"type": "string"},
}
EXPLAIN = {
    "name": "reasons",
    "in": "query",
    "required": False,
    "description": "Whether to say which features raise the score.",
    "schema": {"type": "string", "enum": ["true", "false"]},
}


class Error(BaseModel):
    """Why there is no answer."""

    error: str


class Reason(BaseModel):
    """A feature that, set to what is typical, would lower the score."""

    feature: str
    value: float | str | None
    typical: float | str
    lowers_by: float


class Base(BaseModel):
    """What every answer has."""

    prediction_id: str = Field(description="For late labels.")
    case: str
    version: int = Field(description="The model's.")
    arm: str = Field(description="stable or canary.")
    reasons: list[Reason] | None = None


def answer_model(name: str, online: Online) -> type[BaseModel]:
    """The whole answer of a case."""
    return create_model(f"{name.capitalize()}Answer", __base__=(online.Answer, Base))


def document(cases: Mapping[str, Online]) -> dict[str, Any]:
    """OpenAPI 3.1 for the cases."""
    answers = {name: answer_model(name, online) for name, online in cases.items()}
    received = [online.Request for online in cases.values()] + [Label, Labels]
    sent: list[type[BaseModel]] = [*answers.values(), Labelled, AllLabelled, Error]
    modes: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "validation") for model in received]
    modes += [(model, "serialization") for model in sent]
    _, schemas = models_json_schema(modes, ref_template=REF)
    paths: dict[str, Any] = {}
    for name, online in cases.items():
        parameters = [TRACEPARENT, *([EXPLAIN] if online.hints else [])]
        statuses = (400, 413, 422, 429, 500, 503, 504)
        paths[f"/v1/{name}/score"] = {
            "post": _operation(
                f"score_{name}",
                f"Scores one {_name(online.Request).lower()}.",
                online.Request,
                answers[name],
                statuses,
                parameters,
            )
        }
    paths["/labels"] = {
        "post": _operation(
            "label",
            "Says what became of a prediction; again changes nothing.",
            Label,
            Labelled,
            (400, 404, 409, 413, 422, 503),
            [],
        )
    }
    paths["/labels/batch"] = {
        "post": _operation(
            "labels",
            "Says what became of predictions of one case; none is kept where one is refused.",
            Labels,
            AllLabelled,
            (400, 404, 409, 413, 422, 503),
            [],
        )
    }
    for path, text, kind in (
        ("/healthz", "Whether the process lives.", "application/json"),
        ("/readyz", "Whether requests would be answered.", "application/json"),
        ("/metrics", "Prometheus metrics.", "text/plain"),
        ("/openapi.json", "This document.", "application/json"),
    ):
        paths[path] = {"get": _get(path, text, kind)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Gateway", "version": "1", "description": "Scores raw rows with the served models."},
        "paths": paths,
        "components": {"schemas": schemas["$defs"]},
    }


def _name(model: type[BaseModel]) -> str:
    return model.model_config.get("title") or model.__name__


def _content(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": REF.format(model=model.__name__)}}}


def _operation(
    identity: str,
    text: str,
    taken: type[BaseModel],
    given: type[BaseModel],
    statuses: tuple[int, ...],
    parameters: list[dict[str, Any]],
) -> dict[str, Any]:
    refused = {str(status): {"description": "No answer.", "content": _content(Error)} for status in statuses}
    return {
        "operationId": identity,
        "summary": text,
        "parameters": parameters,
        "requestBody": {"required": True, "content": _content(taken)},
        "responses": {"200": {"description": "The answer.", "content": _content(given)}, **refused},
    }


def _get(path: str, text: str, kind: str) -> dict[str, Any]:
    responses = {"200": {"description": text, "content": {kind: {}}}}
    if path == "/readyz":
        responses["503"] = {"description": "Not now.", "content": {kind: {}}}
    return {"operationId": path.strip("/").split(".")[0], "summary": text, "responses": responses}
