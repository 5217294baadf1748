"""Sends a compiled spec to Kubeflow Pipelines: a run at once, or one every so often."""

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TOKEN = "KFP_TOKEN"
TRIES = 4
PAUSE = 1.0  # seconds before the second try; each further pause is twice as long
PASSING = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Target:
    """Where a spec goes.

    Attributes:
        host: URL of Kubeflow Pipelines.
        experiment: Name of the experiment; made where it is missing.
        namespace: Of a profile, where there are several users; empty elsewhere.
        account: Service account of the pods; empty for the default one.
    """

    host: str
    experiment: str
    namespace: str = ""
    account: str = ""


def submit(path: Path, name: str, target: Target, every: str = "") -> dict[str, str]:
    """Creates a run, or with a schedule a recurring run that never overlaps itself.

    A call that came to nothing is made again, with growing pauses. A creation that may have happened is looked for by its name
    first, so that no run is made twice.

    Args:
        every: A cron expression of six fields, seconds first; empty for one run now.

    Returns:
        ``experiment``, and ``run`` or ``recurring_run``: their ids; and the ``url`` of the page.

    Raises:
        ValueError: for a host that is no URL, a schedule that is none, or an answer that no other try would change.
        OSError: if the host does not answer.
    """
    if urlsplit(target.host).scheme not in ("http", "https"):
        raise ValueError(f"--host takes a URL such as http://localhost:8080, not '{target.host}'.")
    if every and len(every.split()) != 6:
        raise ValueError(f"--every takes six fields, seconds first, such as '0 0 3 * * *', not '{every}'.")
    client = _client(target)
    found = _tried(target, lambda: client.create_experiment(target.experiment, namespace=target.namespace or None))
    experiment, account = found.experiment_id, target.account or None
    common = {"job_name": name, "pipeline_package_path": str(path), "service_account": account, "enable_caching": False}

    def once() -> Any:
        return client.run_pipeline(experiment, **common)

    def often() -> Any:
        return client.create_recurring_run(
            experiment, cron_expression=every, max_concurrency=1, no_catchup=True, **common
        )

    kind = "recurring_run" if every else "run"
    made = _tried(target, often if every else once, lambda: _named(client, kind, experiment, target, name))
    id_ = getattr(made, f"{kind}_id")
    page = "recurringrun" if every else "runs"
    return {"experiment": experiment, kind: id_, "url": f"{target.host.rstrip('/')}/#/{page}/details/{id_}"}


def _client(target: Target) -> Any:
    """A client of a server that is known to answer: the library's own look at it would take half a minute to give up.

    Raises:
        ValueError: if the server has several users, and none is named.
    """
    import kfp
    import kfp_server_api as api

    token = os.environ.get(TOKEN) or None
    config = api.Configuration(host=target.host.rstrip("/"))
    if token:
        config.api_key, config.api_key_prefix = {"authorization": token}, {"authorization": "Bearer"}
    health = _tried(target, api.HealthzServiceApi(api.ApiClient(config)).healthz_service_get_healthz)
    if health.multi_user and not target.namespace:
        raise ValueError(f"{target.host} has several users: --namespace says whose run it is.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on versions of the server that are years old
        named = {"namespace": target.namespace} if target.namespace else {}
        return kfp.Client(host=target.host, existing_token=token, **named)


def _named(client: Any, kind: str, experiment: str, target: Target, name: str) -> Any:
    """The run of that name, if the call that seemed to fail has made one."""
    many = getattr(client, f"list_{kind}s")(
        experiment_id=experiment, namespace=target.namespace or None, page_size=100, sort_by="created_at desc"
    )
    return next((one for one in getattr(many, f"{kind}s") or [] if one.display_name == name), None)


def _tried(target: Target, call: Callable[[], Any], done: Callable[[], Any] | None = None) -> Any:
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    last = "was not asked"
    for attempt in range(TRIES):
        try:
            if attempt and done and (found := done()):
                return found
            return call()
        except ApiException as error:
            if error.status not in PASSING:
                raise ValueError(f"{target.host} refused: {error.status} {_reason(error)}") from None
            last = f"answered {error.status} {_reason(error)}"
        except HTTPError as error:
            last = f"does not answer ({type(error).__name__})"
        if attempt + 1 < TRIES:
            time.sleep(PAUSE * 2**attempt)
    raise OSError(f"{target.host} {last}, {TRIES} times; is the address right, and is the port forwarded?")


def _reason(error: Any) -> str:
    return str(error.body or error.reason or "").strip().replace("\n", " ")[:300]
