"""All evidence at once, computed now: a page, the same as JSON, and its figures as files."""

import base64
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from models.catalog import CASES
from tour import ask, highlight, notes
from tour.notes import Note


def bundle(out: Path, case: str | None, home: Path, as_json: bool) -> list[str]:
    """Writes ``index.html``, ``evidence.json`` and ``figures/`` into a folder; returns the ids that could not be computed.

    Raises:
        ValueError: if no run has been pushed, or the folder is a file.
    """
    from pipeline.session import stderr_to

    _folder(out)
    found = notes.read()
    order = [found[id_] for id_ in notes.questions() if id_ in found]
    # TensorFlow's C++ code talks on standard error before it can be told not to; what goes wrong comes as an exception.
    with stderr_to(Path(os.devnull)):
        shown = order if as_json else track(order, "Evidence", console=Console())
        answered = [computed(note, case, home) for note in shown]
    told = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "runs": runs(home), "questions": answered}
    (out / "evidence.json").write_text(json.dumps(told, indent=1, default=str))
    for name, content in figures(answered):
        (out / "figures" / name).write_bytes(content)
    (out / "index.html").write_text(page(told))
    failed = [one["id"] for one in answered if "error" in one]
    _say(out, told, failed, as_json)
    return failed


def computed(note: Note, case: str | None, home: Path) -> dict[str, Any]:
    """A question with its answer and evidence as plain values; ``error`` in place of evidence that failed."""
    from tour.evidence import render
    from tour.figures import svg

    plain = {name: value for name, value in asdict(note).items() if name not in ("question", "source")}
    plain |= {"question": note.question.text, "follow_ups": note.question.follow_ups}
    try:
        name, results, seconds = ask.evidence(note, case, home)
    except ValueError:
        raise  # nothing has been pushed, which is true of all
    except Exception as error:  # one that fails must not take the others with it
        return plain | {"error": f"{type(error).__name__}: {error}", "results": []}
    shown = [render.to_json(one) | {"svg": svg(one)} for one in results]
    return plain | {"case": name, "seconds": round(seconds, 2), "results": shown}


def figures(answered: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, bytes]]:
    """Name and content of each figure: drawings as SVG, pictures as PNG."""
    for one in answered:
        for number, result in enumerate(one["results"], 1):
            if result["kind"] == "Image":
                yield f"{one['id']}-{number}.png", base64.b64decode(result["png"])
            elif result["svg"]:
                yield f"{one['id']}-{number}.svg", result["svg"].encode()


def page(told: Mapping[str, Any]) -> str:
    """One page that needs nothing else; all that comes from data is escaped."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["code"] = highlight.code
    environment.filters["drawing"] = Markup  # by matplotlib, which escapes the names in it
    template = environment.get_template("bundle.html")
    return template.render(**told, notes=notes.read(), styles=Markup(highlight.styles()))


def runs(home: Path) -> dict[str, str]:
    """Id of the last pushed run by case."""
    from tour.evidence.context import Context

    return {case: Context.of(home, case).run.id for case in CASES if Context.has(home, case)}


def _folder(out: Path) -> None:
    try:
        (out / "figures").mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"{out} is a file; name a folder for the evidence.") from None


def _say(out: Path, told: Mapping[str, Any], failed: Sequence[str], as_json: bool) -> None:
    seconds = sum(one.get("seconds", 0.0) for one in told["questions"])
    if as_json:
        print(json.dumps({"out": str(out), "questions": len(told["questions"]), "failed": failed, "seconds": seconds}))
        return
    words = (
        f"{len(told['questions']) - len(failed)} of {len(told['questions'])} in {seconds:.0f} s: {out / 'index.html'}"
    )
    Console().print(words + (f"; failed: {', '.join(failed)}" if failed else ""), highlight=False, soft_wrap=True)
