"""Commands that demonstrate and explain the system."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cli.options import (
    DEFAULT_HOME,
    Gateway,
    Home,
    Json,
    Tracking,
)
from models.use_case import parse_settings

app = typer.Typer()


@app.command()
def demo(
    headless: Annotated[
        bool, typer.Option("--headless", help="Print a JSON summary and exit instead of showing the tour.")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="NAME=VALUE for every use case with that setting, or CASE.NAME=VALUE for one; can be repeated.",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address that servers and tour listen on; 0.0.0.0 for all interfaces.")
    ] = "127.0.0.1",
    tracking: Tracking = "",
    home: Home = DEFAULT_HOME,
) -> None:
    """Play the whole story: train, serve, drift, detect, retrain, swap, tour.

    Nobody has to be at the keyboard. An interrupted demonstration resumes where it stopped.
    """
    from cli import commands
    from tour.demo import servers
    from tour.demo.collaborators import Collaborators
    from tour.demo.story import play_demo

    collaborators = Collaborators(
        commands.run,
        serve_models=partial(servers.serve_models, host=host),
        show_tour=partial(servers.show_tour, host=host),
    )
    raise typer.Exit(play_demo(home, headless, tracking, parse_settings(set_ or []), collaborators))


@app.command()
def browser(
    cases: Annotated[list[str] | None, typer.Argument(help="Use cases; by default all with a pushed version.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")] = 8700,
    home: Home = DEFAULT_HOME,
) -> None:
    """Serve a page that runs the served models in the browser (LiteRT.js).

    The page can be opened on this machine only.
    """
    from cli import commands

    commands.serve_browser_page(cases or [], port, home)


@app.command()
def doctor(home: Home = DEFAULT_HOME, as_json: Json = False) -> None:
    """Check what this machine has and what will not work on it."""
    from cli import commands

    raise typer.Exit(commands.print_checks(home, as_json))


@app.command()
def ask(
    words: Annotated[
        list[str] | None,
        typer.Argument(help="A question's id, such as A15, or words to search for; by default all are listed."),
    ] = None,
    prove: Annotated[bool, typer.Option("--prove", help="Compute the evidence now, on the last pushed run.")] = False,
    case: Annotated[
        str | None, typer.Option(help="Use case whose run is measured; by default the first with the evidence.")
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Answer an interview question and prove it on the last pushed run."""
    from tour import ask

    ask.ask(words or [], prove, case, home, as_json)


@app.command()
def evidence(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder to write index.html, evidence.json and the figures to.")
    ],
    case: Annotated[
        str | None, typer.Option(help="Use case whose run is measured; by default the first with the evidence.")
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Compute the evidence of every question as a page, JSON and figures."""
    from tour import bundle

    raise typer.Exit(1 if bundle.write_bundle(out, case, home, as_json) else 0)


@app.command("break")
def break_(
    name: Annotated[str | None, typer.Argument(help="Incident to play; without it all are listed.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Undo the incident instead of playing it.")] = False,
    home: Home = DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Break something on purpose and show how the system responds."""
    from cli import break_command

    break_command.play_incident(name, undo, home, as_json)


@app.command()
def tour(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")] = 8600,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all interfaces.")] = "127.0.0.1",
    token: Annotated[
        str,
        typer.Option(
            envvar="SHOWCASE_TOUR_TOKEN",
            help="Token that the buttons require if --host is reachable from other machines; random by default.",
        ),
    ] = "",
    gateway: Gateway = "",
    open_browser: Annotated[bool, typer.Option("--open", help="Open the tour in a browser.")] = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """Serve the tour: pages on the live system, its stages and the questions."""
    from tour.web import command

    command.serve_tour(home, host, port, token, gateway, open_browser)
