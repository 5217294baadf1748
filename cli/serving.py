"""The commands that serve what was pushed, ask it, watch it and say which version answers."""

from typing import Annotated

import typer

from cli.options import DEFAULT_HOME, Case, Home, Json
from pipeline.arguments import parse_settings, parse_window

app = typer.Typer()


@app.command()
def serve(
    cases: Annotated[list[str] | None, typer.Argument(help="Use cases; all that were pushed by default.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Of the gateway; 0 for any free one.")] = 8080,
    rest_port: Annotated[int, typer.Option(help="Of TensorFlow Serving's REST API; -1 for none.")] = 8501,
    grpc_port: Annotated[int, typer.Option(help="Of TensorFlow Serving's gRPC API; -1 for none.")] = 8500,
    gateway: Annotated[bool, typer.Option("--gateway/--no-gateway", help="Whether raw rows are scored too.")] = True,
    backend: Annotated[
        str, typer.Option(help="HOST:PORT of a TensorFlow Serving to ask in place of a server of our own.")
    ] = "",
    rate: Annotated[float, typer.Option(min=0, help="Requests a second that the gateway lets in; 0 for all.")] = 0.0,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds that the model has for an answer.")] = 2.0,
    lite: Annotated[bool, typer.Option("--prefer-tflite", help="Let LiteRT answer the signatures it has.")] = False,
    store: Annotated[
        str, typer.Option(help="Where the history lies: embedded, or redis://HOST:PORT/DB for several gateways.")
    ] = "embedded",
    monitor: Annotated[bool, typer.Option("--monitor/--no-monitor", help="Whether drift is watched beside.")] = True,
    webhook: Annotated[str, typer.Option(help="Address that alerts are posted to, as JSON.")] = "",
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Serves pushed models by TensorFlow Serving's interfaces, and raw rows by the gateway; follows what is pushed."""
    from pipeline.online.serve import Asked
    from pipeline.online.serve import serve as start

    listens = port if gateway else None
    rest, grpc = (None if one < 0 else one for one in (rest_port, grpc_port))
    shared = "" if store == "embedded" else store
    start(
        Asked(cases or [], home, host, listens, rest, grpc, backend, rate, timeout, lite, shared, monitor, webhook),
        as_json,
    )


@app.command()
def traffic(
    case: Case,
    rate: Annotated[float, typer.Option(min=0, help="Requests a second; 0 for as many as there can be.")] = 50.0,
    seconds: Annotated[float, typer.Option(min=0, help="How long; 0 for to the end of the data.")] = 0.0,
    data: Annotated[str | None, typer.Option(help="Folder of spans; by default what follows the last run's.")] = None,
    spans: Annotated[str, typer.Option(help="Window of spans, FIRST:LAST, either may be left out.")] = ":",
    drift: Annotated[list[str] | None, typer.Option(help="KIND:SIZE@DAY; can be repeated.")] = None,
    connections: Annotated[int, typer.Option(min=1, help="Requests that may be under way.")] = 8,
    gateway: Annotated[str, typer.Option(help="HOST:PORT; this home's by default.")] = "",
    labels: Annotated[bool, typer.Option("--labels/--no-labels", help="Whether labels are sent afterwards.")] = True,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Sends raw rows to the gateway at a rate, checks every answer and says how long they took."""
    from pipeline.online.replay import Replay
    from pipeline.online.replay import traffic as send

    asked = Replay(case, home, data, *parse_window(spans), drift or [], rate, seconds, connections, gateway, labels)
    raise typer.Exit(send(asked, as_json))


@app.command()
def monitor(
    case: Case,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until interrupted.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 10.0,
    policy: Annotated[
        list[str] | None, typer.Option("--policy", help="NAME=VALUE of the case's policy; can be repeated.")
    ] = None,
    host: Annotated[str, typer.Option(help="Where --port listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="For /healthz and /metrics while it watches; -1 for none.")] = -1,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Judges new windows of served rows, decides, and trains again if the policy says so."""
    from cli import monitor_command

    listen = (host, port) if watch and port >= 0 else None
    raise typer.Exit(
        monitor_command.watch(case, home, parse_settings(policy or [], "--policy"), watch, every, as_json, listen)
    )


@app.command()
def promote(
    case: Case,
    version: Annotated[str, typer.Argument(help="A version's number, or latest to follow the newest.")],
    canary: Annotated[float | None, typer.Option(help="Share of requests that it answers, in 0..1.")] = None,
    shadow: Annotated[bool, typer.Option("--shadow", help="It is asked too and never answers.")] = False,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Makes a version the one that answers, or a canary or shadow beside it; a running server follows."""
    from pipeline.online import rollouts

    rollouts.promote(case, version, canary, shadow, home, as_json)


@app.command()
def rollback(case: Case, home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """Goes back to the version before, or ends a canary; a running server follows."""
    from pipeline.online import rollouts

    rollouts.rollback(case, home, as_json)
