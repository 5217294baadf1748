"""The gateway's metrics, and its OpenAPI document, checked with a fuzzer."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from support.gateway_case import FakeBackend, build_gateway, open_gateway, run, score_purchase

from serving.http import asyncio_server
from serving.http.asyncio_server import Request


def test_metrics_count_requests_decisions_and_records(tmp_path):
    async def work():
        async with open_gateway(tmp_path) as (gateway, _):
            for number, amount in enumerate((10.0, 20.0, 900.0, -1.0)):
                await score_purchase(gateway, transaction_id=f"t{number}", amount=amount)
            await score_purchase(gateway, transaction_id="t0", amount=10.0)
            await score_purchase(gateway, transaction_id="t0", amount=11.0)
            return (await gateway(Request("GET", "/metrics", "", {}, b""))).body.decode()

    text = run(work())
    for line in (
        'gateway_requests_total{case="fraud",status="200"} 4.0',
        'gateway_requests_total{case="fraud",status="409"} 1.0',
        'gateway_repeats_total{case="fraud",outcome="repeated"} 1.0',
        'gateway_repeats_total{case="fraud",outcome="conflict"} 1.0',
        'gateway_requests_total{case="fraud",status="422"} 1.0',
        'gateway_decisions_total{arm="stable",case="fraud",decision="pass",version="2"} 2.0',
        'gateway_decisions_total{arm="stable",case="fraud",decision="stop",version="2"} 1.0',
        'gateway_request_seconds_count{case="fraud"} 4.0',
        'gateway_log_records_total{case="fraud"} 3.0',
        'gateway_breaker{case="fraud"} 0.0',
        'gateway_log_waiting{case="fraud"} 0.0',
        'gateway_version{arm="stable",case="fraud"} -1.0',
    ):
        assert line in text, line


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    gateway = build_gateway(tmp_path_factory.mktemp("fuzz"), FakeBackend())
    for scorer in gateway.scorers.values():
        scorer.open()
    return schemathesis.openapi.from_asgi("/openapi.json", asyncio_server.asgi(gateway))


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize(
    "path", ["/v1/fraud/score", "/v1/image/score", "/labels", "/labels/batch", "/healthz", "/readyz", "/metrics"]
)
def test_responses_match_the_openapi_document(document, path, mode):
    operation = next(iter(document[path].values()))

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(operation.as_strategy(generation_mode=mode))
    def check(case):
        # The schema cannot express every rule, such as that a picture can be decoded; 422 is then correct.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    try:
        check()
    except Unsatisfiable as error:
        assert mode == GenerationMode.NEGATIVE and path in ("/healthz", "/readyz", "/metrics"), error


@pytest.mark.parametrize(("path", "named"), [("/v1/fraud/score", False), ("/v1/image/score", True)])
def test_document_describes_repeated_requests(document, path, named):
    operation = document.raw_schema["paths"][path]["post"]
    assert operation["responses"]["200"]["headers"]["idempotent-replayed"]["schema"] == {
        "type": "string",
        "enum": ["true"],
    }
    assert "409" in operation["responses"]
    assert ("idempotency-key" in [parameter["name"] for parameter in operation["parameters"]]) == named
