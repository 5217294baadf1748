"""The command line. Each command imports TensorFlow and TFX only when it needs them, so that ``--help`` is fast."""

import errno
import sys
import warnings

import typer
from rich.text import Text

from cli import kubeflow_commands, pipeline_commands, serving_commands, tour_commands
from pipeline.local.library_messages import filter_library_messages
from pipeline.terminal import accept_any_locale, make_console

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Train, serve, monitor and explain two use cases with one TFX pipeline.",
)
for commands in (pipeline_commands, serving_commands, kubeflow_commands, tour_commands):
    app.add_typer(commands.app)

REMEDIES = {
    errno.EROFS: " Work on a copy in a place that can be written.",
    errno.EACCES: " Give this user the permission, or work on a copy.",
    errno.EPERM: " Give this user the permission, or work on a copy.",
    errno.ENOSPC: " Free some space.",
}


def main() -> None:
    """Run the console script; an error that the user can fix is printed as one sentence, with exit code 2."""
    warnings.filterwarnings("ignore")
    accept_any_locale()
    try:
        with filter_library_messages():
            app(standalone_mode=True)
    except SystemExit as end:
        # Typer ends a command that Ctrl-C reaches without a word.
        if isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt):
            make_console(stderr=True).print("Interrupted.")
        raise
    except (ValueError, OSError) as error:
        make_console(stderr=True).print(Text.assemble(("error:", "red"), f" {describe_error(error)}"), soft_wrap=True)
        sys.exit(2)


def describe_error(error: Exception) -> str:
    """Return the message of an error; of the operating system's errors the path and the reason, without the number."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename} cannot be read or written: {error.strerror}.{REMEDIES.get(error.errno or 0, '')}"
    return str(error)


if __name__ == "__main__":
    main()
