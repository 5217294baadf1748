"""The order in which test files run."""

# Files that take minutes, so that none of them begins when the other processes are through. The first of the quick tests makes
# the home with pushed runs; those after it do not need that home.
FIRST = (
    "pipeline/test_drift_loop.py",
    "tour/demo/test_end_to_end.py",
    "tour/evidence/test_changes.py",
    "models/test_strategies.py",
    "pipeline/test_kubeflow.py",
    "pipeline/test_rehearsal.py",
    "models/test_cluster.py",
    "models/test_tuning.py",
    "components/test_normal.py",
    "models/test_contract.py",
    "pipeline/test_resume.py",
    "pipeline/test_runners.py",
    "tour/test_incidents.py",
    "pipeline/test_end_to_end.py",
    "serving/edge/test_edge.py",
    "serving/test_browser.py",
    "models/test_adapters.py",
    "kubernetes/test_manifest_commands.py",
)
