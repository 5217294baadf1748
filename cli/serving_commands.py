"""Commands that serve pushed models, send traffic, monitor drift and choose the version that answers."""

from typing import Annotated

import typer

from cli.options import DEFAULT_HOME, Case, Drift, Gateway, Home, Json, Spans
from models.spans import parse_window
from models.use_case import parse_settings

app = typer.Typer()


@app.command()
def serve(
    cases: Annotated[list[str] | None, typer.Argument(help="Use cases; by default all with a pushed version.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all interfaces.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the gateway; 0 for any free one.")] = 8080,
    rest_port: Annotated[
        int,
        typer.Option(min=-1, max=65535, help="Port of TensorFlow Serving's REST API; 0 for any free one, -1 for none."),
    ] = 8501,
    grpc_port: Annotated[
        int,
        typer.Option(min=-1, max=65535, help="Port of TensorFlow Serving's gRPC API; 0 for any free one, -1 for none."),
    ] = 8500,
    gateway: Annotated[
        bool, typer.Option("--gateway/--no-gateway", help="Run the gateway, which scores raw rows.")
    ] = True,
    backend: Annotated[
        str, typer.Option(help="HOST:PORT of a TensorFlow Serving (gRPC) to use; by default a model server is started.")
    ] = "",
    rate: Annotated[
        float, typer.Option(min=0, help="Rate limit of the gateway in requests per second; 0 for no limit.")
    ] = 0.0,
    timeout: Annotated[float, typer.Option(min=0.001, help="Deadline of the model's answer, in seconds.")] = 2.0,
    lite: Annotated[
        bool, typer.Option("--prefer-tflite", help="Use LiteRT for the signatures that the TFLite model has.")
    ] = False,
    lite_raw: Annotated[
        bool,
        typer.Option("--raw-tflite/--no-raw-tflite", help="Use LiteRT for raw rows if the model's gate passed it."),
    ] = True,
    store: Annotated[
        str,
        typer.Option(
            envvar="SHOWCASE_STORE",
            help="Store of the online history: embedded, or redis://HOST:PORT/DB if gateways share it.",
        ),
    ] = "embedded",
    monitor: Annotated[
        bool, typer.Option("--monitor/--no-monitor", help="Run the drift monitor next to the gateway.")
    ] = True,
    webhook: Annotated[str, typer.Option(help="URL to post alerts to, as JSON; none by default.")] = "",
    wait: Annotated[
        bool, typer.Option("--wait", help="Start although nothing is pushed; not ready until something is.")
    ] = False,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Serve pushed models over REST and gRPC, and raw rows over the gateway.

    The interfaces are those of TensorFlow Serving. New versions are loaded as they are pushed.
    """
    from pipeline.online.serve import ServeOptions
    from pipeline.online.serve import serve as start

    gateway_port = port if gateway else None
    rest, grpc = (None if number < 0 else number for number in (rest_port, grpc_port))
    shared = "" if store == "embedded" else store
    start(
        ServeOptions(
            cases=cases or [],
            home=home,
            host=host,
            port=gateway_port,
            rest_port=rest,
            grpc_port=grpc,
            backend=backend,
            rate=rate,
            timeout=timeout,
            lite=lite,
            lite_raw=lite_raw,
            store=shared,
            monitor=monitor,
            webhook=webhook,
            wait=wait,
        ),
        as_json,
    )


@app.command()
def traffic(
    case: Case,
    rate: Annotated[float, typer.Option(min=0, help="Requests per second; 0 for as many as possible.")] = 50.0,
    seconds: Annotated[float, typer.Option(min=0, help="Duration in seconds; 0 to send all of the data.")] = 0.0,
    data: Annotated[
        str | None,
        typer.Option(
            help="Folder of spans; by default rows that the last run held out, or the days after its generated data."
        ),
    ] = None,
    spans: Spans = ":",
    drift: Drift = None,
    connections: Annotated[int, typer.Option(min=1, help="Maximum number of concurrent requests.")] = 8,
    gateway: Gateway = "",
    labels: Annotated[bool, typer.Option("--labels/--no-labels", help="Send the labels after the requests.")] = True,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Send raw rows to the gateway, check every answer, report the latency.

    The exit code is 1 if a request failed or none was sent.
    """
    from pipeline.online.replay import TrafficOptions
    from pipeline.online.replay import run_traffic as send

    request = TrafficOptions(
        case, home, data, *parse_window(spans), drift or [], rate, seconds, connections, gateway, labels
    )
    raise typer.Exit(send(request, as_json))


@app.command()
def monitor(
    case: Case,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat until interrupted.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two checks, with --watch.")] = 10.0,
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", help="Value of the retraining policy, NAME=VALUE; can be repeated."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address that --port listens on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=-1, max=65535, help="Port of /healthz and /metrics, with --watch; -1 for none.")
    ] = -1,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Check new windows of served rows for drift; retrain if necessary.

    The retraining policy decides. The exit code is 1 if a retraining was due and no model was pushed.
    """
    from cli import monitor_command

    listen = (host, port) if watch and port >= 0 else None
    raise typer.Exit(
        monitor_command.run_monitor(case, home, parse_settings(policy or [], "--policy"), watch, every, as_json, listen)
    )


@app.command()
def promote(
    case: Case,
    version: Annotated[str, typer.Argument(help="Number of a version, or latest to follow the newest.")],
    canary: Annotated[
        float | None, typer.Option(help="Make it a canary that answers this share of requests, in 0..1.")
    ] = None,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Send it shadow traffic: it is called, but its answers are not returned.")
    ] = False,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Make a version stable, a canary or a shadow.

    A running server applies the change.
    """
    from pipeline.online import rollouts

    rollouts.promote(case, version, canary, shadow, home, as_json)


@app.command()
def rollback(case: Case, home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """Return to the previous version, or end a canary.

    A running server applies the change.
    """
    from pipeline.online import rollouts

    rollouts.rollback(case, home, as_json)
