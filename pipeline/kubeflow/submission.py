"""Submit a compiled spec to Kubeflow Pipelines: one run now, or a recurring run."""

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

TOKEN = "KFP_TOKEN"
ATTEMPTS = 4
PAUSE = 1.0  # seconds before the first retry; every further pause is twice as long
TRANSIENT_STATUSES = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Target:
    """Where a spec is submitted.

    Attributes:
        host: URL of Kubeflow Pipelines.
        experiment: Name of the experiment; created if it does not exist.
        namespace: Namespace of the user's profile in a multi-user deployment; empty otherwise.
        account: Service account of the pods; empty for the default one.
    """

    host: str
    experiment: str
    namespace: str = ""
    account: str = ""


def submit(path: Path, name: str, target: Target, every: str = "") -> dict[str, str]:
    """Create a run, or with a schedule a recurring run of which at most one runs at a time.

    A failed call is retried with exponential backoff. Before a creation is retried, the run is looked up by its name, so
    that a call whose response was lost does not create a second run.

    Args:
        every: A cron expression of six fields, seconds first; empty for one run now.

    Returns:
        The ids ``experiment`` and ``run`` or ``recurring_run``, and the ``url`` of the run's page.

    Raises:
        ValueError: as for :func:`check_target`, or for an HTTP error that a retry would not change.
        OSError: if the host does not answer.
    """
    check_target(target, every)
    client = _client(target)
    experiment_info = _retry(
        target, lambda: client.create_experiment(target.experiment, namespace=target.namespace or None)
    )
    experiment, account = experiment_info.experiment_id, target.account or None
    common = {"job_name": name, "pipeline_package_path": str(path), "service_account": account, "enable_caching": False}

    def create_run() -> Any:
        return client.run_pipeline(experiment, **common)

    def create_recurring_run() -> Any:
        return client.create_recurring_run(
            experiment, cron_expression=every, max_concurrency=1, no_catchup=True, **common
        )

    kind = "recurring_run" if every else "run"
    create = create_recurring_run if every else create_run
    created = _retry(target, create, lambda: _find_by_name(client, kind, experiment, target, name))
    id_ = getattr(created, f"{kind}_id")
    page = "recurringrun" if every else "runs"
    return {"experiment": experiment, kind: id_, "url": f"{target.host.rstrip('/')}/#/{page}/details/{id_}"}


def check_target(target: Target, every: str = "") -> None:
    """Check the host and the schedule, which costs nothing, unlike compiling the pipeline.

    Raises:
        ValueError: for an invalid host URL or schedule.
    """
    if urlsplit(target.host).scheme not in ("http", "https") or not urlsplit(target.host).hostname:
        raise ValueError(f"--host takes a URL such as http://localhost:8080, not '{target.host}'.")
    if every and len(every.split()) != 6:
        raise ValueError(f"--every takes six fields, seconds first, such as '0 0 3 * * *', not '{every}'.")


def _client(target: Target) -> Any:
    """Return a client after a health check; the library's own check takes half a minute to give up.

    Raises:
        ValueError: if the server is multi-user and no namespace is given.
    """
    import kfp
    import kfp_server_api as api

    token = os.environ.get(TOKEN) or None
    config = api.Configuration(host=target.host.rstrip("/"))
    if token:
        config.api_key, config.api_key_prefix = {"authorization": token}, {"authorization": "Bearer"}
    health = _retry(target, api.HealthzServiceApi(api.ApiClient(config)).healthz_service_get_healthz)
    if health.multi_user and not target.namespace:
        raise ValueError(f"{target.host} is a multi-user deployment: give the profile's namespace with --namespace.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the client warns about server versions that are years old
        namespace = {"namespace": target.namespace} if target.namespace else {}
        return kfp.Client(host=target.host, existing_token=token, **namespace)


def _find_by_name(client: Any, kind: str, experiment: str, target: Target, name: str) -> Any:
    """Return the run of that name if a call that seemed to fail has created it, else None."""
    response = getattr(client, f"list_{kind}s")(
        experiment_id=experiment, namespace=target.namespace or None, page_size=100, sort_by="created_at desc"
    )
    return next((item for item in getattr(response, f"{kind}s") or [] if item.display_name == name), None)


def _retry(target: Target, call: Callable[[], Any], find_created: Callable[[], Any] | None = None) -> Any:
    from kfp_server_api import ApiException
    from urllib3.exceptions import HTTPError

    last_failure = "was not called"
    for attempt in range(ATTEMPTS):
        try:
            if attempt and find_created and (created := find_created()):
                return created
            return call()
        except ApiException as error:
            if error.status not in TRANSIENT_STATUSES:
                raise ValueError(f"{target.host} refused: {error.status} {_reason(error)}") from None
            last_failure = f"answered {error.status} {_reason(error)}"
        except HTTPError as error:
            last_failure = f"does not answer ({type(error).__name__})"
        if attempt + 1 < ATTEMPTS:
            time.sleep(PAUSE * 2**attempt)
    raise OSError(f"{target.host} {last_failure}, {ATTEMPTS} times; check the address and the port forwarding.")


def _reason(error: Any) -> str:
    return str(error.body or error.reason or "").strip().replace("\n", " ")[:300]
