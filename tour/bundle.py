"""Compute all evidence at once: an HTML page, the same as JSON, and the figures as files."""

import base64
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.progress import track

from pipeline.terminal import make_console
from tour import ask, highlight, notes
from tour.notes import Note

STATIC = Path(__file__).parent / "web" / "static"
COLOURS, FIGURES = STATIC / "colours.css", STATIC / "figures.css"


def write_bundle(out: Path, case: str | None, home: Path, as_json: bool) -> list[str]:
    """Write ``index.html``, ``evidence.json`` and ``figures/`` to a folder; return the ids whose evidence failed.

    Raises:
        ValueError: if no run has been pushed, or the path is a file.
    """
    from pipeline.session import redirect_stderr

    runs = {context.case.name: context.run.id for context in ask.pushed_contexts(case, home)}
    _create_folder(out)
    answers = notes.read()
    ordered = [answers[id_] for id_ in notes.questions() if id_ in answers]
    # TensorFlow's C++ code logs to standard error before logging can be configured; errors are raised as exceptions.
    with redirect_stderr(Path(os.devnull)):
        iterable = ordered if as_json else track(ordered, "Evidence", console=make_console())
        answered = [compute_question(note, case, home) for note in iterable]
    content = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "runs": runs, "questions": answered}
    (out / "evidence.json").write_text(json.dumps(content, indent=1, default=str))
    for name, data in iterate_figures(answered):
        (out / "figures" / name).write_bytes(data)
    (out / "index.html").write_text(render_page(content))
    failed = [question["id"] for question in answered if "error" in question]
    _print_summary(out, content, failed, as_json)
    return failed


def compute_question(note: Note, case: str | None, home: Path) -> dict[str, Any]:
    """A question with its answer and evidence as plain values; ``error`` in place of evidence that failed."""
    from tour.evidence import render
    from tour.figures import svg

    fields = {name: value for name, value in asdict(note).items() if name not in ("question", "source")}
    fields |= {"question": note.question.text, "follow_ups": note.question.follow_ups}
    try:
        name, results, seconds = ask.compute_evidence(note, case, home)
    except Exception as error:  # a failure must not stop the other questions
        return fields | {"error": f"{type(error).__name__}: {error}", "results": []}
    shown = [render.to_json(result) | {"svg": svg(result)} for result in results]
    return fields | {"case": name, "seconds": round(seconds, 2), "results": shown}


def iterate_figures(answered: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, bytes]]:
    """File name and content of each figure: charts as SVG, images as PNG."""
    style = f"<style>{_resolve_colours(FIGURES.read_text())}</style>"
    for question in answered:
        for number, result in enumerate(question["results"], 1):
            if result["kind"] == "Image":
                yield f"{question['id']}-{number}.png", base64.b64decode(result["png"])
            elif result["svg"]:
                yield f"{question['id']}-{number}.svg", str(result["svg"]).replace(">", f">{style}", 1).encode()


def _resolve_colours(style: str) -> str:
    """Replace the variables of a style sheet by the light colours, as not every viewer of SVG knows variables."""
    light = dict(reversed(re.findall(r"--([\w-]+): ([^;]+);", COLOURS.read_text())))
    return re.sub(r"var\(--([\w-]+)\)", lambda match: light[match[1]], style)


def render_page(content: Mapping[str, Any]) -> str:
    """One self-contained page; all text from data is escaped."""
    from jinja2 import Environment, FileSystemLoader
    from markupsafe import Markup

    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["code"] = highlight.highlight_source
    template = environment.get_template("bundle.html")
    styles = highlight.style_sheet() + COLOURS.read_text() + FIGURES.read_text()
    return template.render(**content, notes=notes.read(), styles=Markup(styles))


def _create_folder(out: Path) -> None:
    try:
        (out / "figures").mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(f"{out} is a file; name a folder for the evidence.") from None


def _print_summary(out: Path, content: Mapping[str, Any], failed: Sequence[str], as_json: bool) -> None:
    seconds = sum(question.get("seconds", 0.0) for question in content["questions"])
    if as_json:
        print(
            json.dumps({"out": str(out), "questions": len(content["questions"]), "failed": failed, "seconds": seconds})
        )
        return
    total = len(content["questions"])
    summary = f"{total - len(failed)} of {total} in {seconds:.0f} s: {out / 'index.html'}"
    make_console().print(summary + (f"; failed: {', '.join(failed)}" if failed else ""), soft_wrap=True)
