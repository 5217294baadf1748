"""Facts of a run that are fixed before it starts, for its record in the metadata store."""

import json
import subprocess
from importlib.metadata import version

from pipeline import code_digest
from pipeline.checkout import ROOT
from pipeline.metadata import store
from pipeline.plan import PACKAGES, Plan


def collect_run_facts(plan: Plan) -> dict[str, str]:
    """Return data, settings, code and library versions of a plan, as text by name."""
    return {
        "started": store.utc_now(),
        "source": plan.source,
        "spans": f"{plan.first}:{plan.last}",
        "data_version": plan.data_version,
        "settings": json.dumps(plan.settings, sort_keys=True),
        "space": json.dumps(plan.space),
        "base": plan.base.run if plan.base else "",
        "decision": plan.decision,
        "commit": _commit(),
        "lock": code_digest.lock_digest(),
        "libraries": json.dumps({name: version(name) for name in PACKAGES}),
    }


def _commit() -> str:
    """Return the commit of the code, with a + if files differ from it; empty outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
