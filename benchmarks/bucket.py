"""Measure what a root in a bucket costs against a folder: wall seconds of each stage and of the whole run.

``python -m benchmarks.bucket`` runs a pipeline in new homes, in a folder and in a bucket in turn. The bucket is one of
moto's S3 server, which it starts on this machine; ``--root s3://BUCKET/FOLDER`` names another, with the usual variables for
address and credentials. ``all`` is the whole command: also planning, imports, and the upload of data and metadata.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.runs import ROOT, median, print_table, showcase_command, write_report

BUCKET = "benchmark"


@contextmanager
def serve_bucket() -> Iterator[dict[str, str]]:
    """Run moto's S3 server with an empty bucket; yield the environment of its clients."""
    from pyarrow import fs

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env={**os.environ, "S3_IGNORE_SUBDOMAIN_BUCKETNAME": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        client = fs.S3FileSystem(
            endpoint_override=environment["AWS_ENDPOINT_URL"],
            access_key="key",
            secret_key="secret",
            region="us-east-1",
            allow_bucket_creation=True,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=10),
        )
        client.create_dir(BUCKET)  # repeated until the server has started
        yield environment
    finally:
        server.terminate()
        server.wait()


def measure_run(case: str, root: str, environment: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Run the pipeline in an empty home; return the wall seconds of each stage and of the command, and the metrics.

    Raises:
        SystemExit: if the run pushed no model.
    """
    options = ("--root", root, "--json", "--tracking", "none")
    started = time.monotonic()
    process = subprocess.run(
        showcase_command("run", case, *options),
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    seconds = time.monotonic() - started
    if process.returncode:
        sys.exit(f"error: the run with the root {root} failed: {process.stdout[-400:]}")
    facts = json.loads(process.stdout)["facts"]
    stages = {name: stage["seconds"] for name, stage in json.loads(facts["stages"]).items()}
    # Stages run in parallel, so their sum is more than the time that they take together.
    return {"seconds": {**stages, "all": seconds}, "metrics": json.loads(facts["metrics"])}


def compare(runs: Mapping[str, Sequence[Mapping[str, Mapping[str, float]]]]) -> list[dict[str, Any]]:
    """Return a row for each stage: median seconds with each root, and the difference."""
    rows = []
    for stage in runs["folder"][0]["seconds"]:
        folder, bucket = (median([run["seconds"][stage] for run in runs[root]]) for root in ("folder", "bucket"))
        rows.append({"stage": stage, "folder s": folder, "bucket s": bucket, "difference s": bucket - folder})
    return rows


def main() -> None:
    """Measure both roots in turn, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--case", default="fraud", help="Use case to run.")
    parser.add_argument("--rounds", type=int, default=3, help="Number of runs with each root.")
    parser.add_argument("--root", default="", help="Folder of a bucket; by default of moto's server on this machine.")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/bucket.json", help="JSON to write.")
    options = parser.parse_args()
    runs: dict[str, list[dict[str, dict[str, float]]]] = {"folder": [], "bucket": []}
    with serve_bucket() as environment:
        for number in range(options.rounds):
            with tempfile.TemporaryDirectory() as folder:
                runs["folder"].append(measure_run(options.case, f"{folder}/home", {}))
                cache = {"SHOWCASE_CACHE": f"{folder}/cache"}
                root = f"{options.root or f's3://{BUCKET}'}/{Path(folder).name}"
                runs["bucket"].append(measure_run(options.case, root, cache | ({} if options.root else environment)))
            seconds = {name: measured[-1]["seconds"]["all"] for name, measured in runs.items()}
            print(
                f"round {number + 1}: " + ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items()),
                flush=True,
            )
    table = compare(runs)
    print_table(f"{options.case}: wall seconds by stage, medians of {options.rounds}", table)
    write_report(options.out, case=options.case, runs=runs, table=table)


if __name__ == "__main__":
    main()
