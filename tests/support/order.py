"""The order in which test files run."""

# Files that take minutes start first, so that none of them starts when the other processes have finished. The first quick test
# creates the home with pushed runs; those after it do not need that home.
FIRST_FILES = (
    "pipeline/monitoring/test_drift_loop.py",
    "tour/demo/test_end_to_end.py",
    "tour/evidence/test_changes.py",
    "models/training/distribute/test_strategies.py",
    "pipeline/kubeflow/test_compiler.py",
    "pipeline/kubeflow/test_local_run.py",
    "pipeline/test_bucket_root.py",
    "models/training/distribute/test_cluster.py",
    "models/training/model_selection/test_tuning.py",
    "components/training/test_reference_profiler.py",
    "models/test_contract.py",
    "pipeline/local/test_resume.py",
    "pipeline/local/test_runners.py",
    "tour/test_incidents.py",
    "pipeline/test_end_to_end.py",
    "serving/edge/test_edge.py",
    "tour/evidence/test_edge_files.py",
    "models/training/test_adapters.py",
    "kubernetes/test_manifest_commands.py",
)
