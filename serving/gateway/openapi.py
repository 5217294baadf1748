"""The gateway's OpenAPI document, generated from the pydantic models that validate requests."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field, create_model
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from serving.gateway.late_labels import AllLabelled, Label, Labelled, Labels
from serving.gateway.request_headers import MAX_REQUEST_ID, REPEATED, REQUEST_ID
from serving.gateway.use_case_interface import Online

REF = "#/components/schemas/{model}"
TRACEPARENT = {
    "name": "traceparent",
    "in": "header",
    "required": False,
    "description": "W3C trace context; returned in the response and logged with the prediction.",
    "schema": {"type": "string"},
}
EXPLAIN = {
    "name": "reasons",
    "in": "query",
    "required": False,
    "description": "Whether to return the features that raise the score.",
    "schema": {"type": "string", "enum": ["true", "false"]},
}

REQUEST_ID_HEADER = {
    "name": REQUEST_ID,
    "in": "header",
    "required": False,
    "description": "Names the request, so that it can be sent again: the first answer is then returned.",
    "schema": {"type": "string", "maxLength": MAX_REQUEST_ID},
}
REPEATS = " A repeated request gets its first answer; the same id with another content is a 409."
REPEATED_HEADER = {
    REPEATED[0]: {
        "description": "Present if this is the first answer to a request that was sent before.",
        "required": False,
        "schema": {"type": "string", "enum": [REPEATED[1]]},
    }
}


class Error(BaseModel):
    """Why the request failed."""

    error: str


class Reason(BaseModel):
    """A feature that, at its typical value, would lower the score."""

    feature: str
    value: float | str | None
    typical: float | str
    lowers_by: float


class Base(BaseModel):
    """The fields of every score response."""

    prediction_id: str = Field(description="Names the prediction in late labels.")
    case: str
    version: int = Field(description="Model version that answered.")
    arm: str = Field(description="stable or canary.")
    reasons: list[Reason] | None = None


def make_answer_model(name: str, online: Online) -> type[BaseModel]:
    """Return the complete response model of a case: its own fields and the common ones."""
    return create_model(f"{name.capitalize()}Answer", __base__=(online.Answer, Base))


def build_document(cases: Mapping[str, Online]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document for the cases."""
    answers = {name: make_answer_model(name, online) for name, online in cases.items()}
    requests = [online.Request for online in cases.values()] + [Label, Labels]
    responses: list[type[BaseModel]] = [*answers.values(), Labelled, AllLabelled, Error]
    modes: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "validation") for model in requests]
    modes += [(model, "serialization") for model in responses]
    _, schemas = models_json_schema(modes, ref_template=REF)
    paths: dict[str, Any] = {}
    for name, online in cases.items():
        parameters = [TRACEPARENT, *([EXPLAIN] if online.explained_features else [])]
        parameters += [] if online.has_history else [REQUEST_ID_HEADER]
        operation = _make_operation(
            f"score_{name}",
            f"Score one {_get_title(online.Request).lower()}.{REPEATS}",
            online.Request,
            answers[name],
            (400, 409, 413, 415, 422, 429, 500, 503, 504),
            parameters,
        )
        operation["responses"]["200"]["headers"] = REPEATED_HEADER
        paths[f"/v1/{name}/score"] = {"post": operation}
    paths["/labels"] = {
        "post": _make_operation(
            "label",
            "Send the true label of a prediction; repeating it changes nothing.",
            Label,
            Labelled,
            (400, 404, 409, 413, 415, 422, 503),
            [],
        )
    }
    paths["/labels/batch"] = {
        "post": _make_operation(
            "labels",
            "Send the true labels of predictions of one case; if one is rejected, none is stored.",
            Labels,
            AllLabelled,
            (400, 404, 409, 413, 415, 422, 503),
            [],
        )
    }
    for path, text, kind in (
        ("/healthz", "Liveness: whether the process is alive.", "application/json"),
        ("/readyz", "Readiness: whether requests can be answered.", "application/json"),
        ("/metrics", "Prometheus metrics.", "text/plain"),
        ("/openapi.json", "This document.", "application/json"),
    ):
        paths[path] = {"get": _make_get_operation(path, text, kind)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Gateway", "version": "1", "description": "Scores raw rows with the served models."},
        "paths": paths,
        "components": {"schemas": schemas["$defs"]},
    }


def _get_title(model: type[BaseModel]) -> str:
    return model.model_config.get("title") or model.__name__


def _make_content(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": REF.format(model=model.__name__)}}}


def _make_operation(
    identity: str,
    text: str,
    request: type[BaseModel],
    response: type[BaseModel],
    statuses: tuple[int, ...],
    parameters: list[dict[str, Any]],
) -> dict[str, Any]:
    errors = {
        str(status): {"description": "The request failed.", "content": _make_content(Error)} for status in statuses
    }
    return {
        "operationId": identity,
        "summary": text,
        "parameters": parameters,
        "requestBody": {"required": True, "content": _make_content(request)},
        "responses": {"200": {"description": "The answer.", "content": _make_content(response)}, **errors},
    }


def _make_get_operation(path: str, text: str, kind: str) -> dict[str, Any]:
    responses = {"200": {"description": text, "content": {kind: {}}}}
    if path == "/readyz":
        responses["503"] = {"description": "Not ready.", "content": {kind: {}}}
    return {"operationId": path.strip("/").split(".")[0], "summary": text, "responses": responses}
