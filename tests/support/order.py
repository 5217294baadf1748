"""The order in which test files run."""

# Files that take minutes, so that none of them begins when the other processes are through. Those that start with runs of their
# own come first, while another process makes the pushed home for all.
FIRST = (
    "pipeline/test_drift_loop.py",
    "tour/demo/test_end_to_end.py",
    "tour/evidence/test_changes.py",
    "pipeline/test_rehearsal.py",
    "tour/test_incidents.py",
    "pipeline/test_resume.py",
    "pipeline/test_runners.py",
    "pipeline/test_end_to_end.py",
    "models/test_cluster.py",
    "serving/edge/test_edge.py",
    "serving/test_browser.py",
    "models/test_tuning.py",
    "models/test_adapters.py",
    "kubernetes/test_manifest_commands.py",
)
