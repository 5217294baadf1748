"""TFX's launcher for stages whose artifacts lie in a bucket: inputs are downloaded before a stage, outputs uploaded after it.

With a home that is a folder, it does what TFX's launcher does.
"""

from pathlib import Path
from typing import Any

from tfx.orchestration.portable import data_types, launcher

from serving import bucket, bucket_folders

TRAINING = "training"  # folder of a stage for the checkpoints of an unfinished attempt


class BucketLauncher(launcher.Launcher):
    """Keeps the working copy and the bucket equal for what one stage reads and writes.

    The outputs are in the bucket before the store says that the stage is done. The checkpoints of a training that fails or is
    stopped are uploaded too, so that another machine resumes it.
    """

    def launch(self) -> data_types.ExecutionInfo | None:
        """Download the files that the parameters name, and run the stage."""
        # The custom driver of a stage reads them, too. The Pusher's parameter is the folder of all versions: it only adds one.
        for parameter in self._pipeline_node.parameters.parameters.values():
            for path in bucket.find_paths(parameter.field_value.string_value):
                if self._pipeline_node.node_info.id != "Pusher":
                    _download(path)
        return super().launch()

    def _run_executor(self, execution_info: data_types.ExecutionInfo) -> Any:
        for artifact in _list_artifacts(execution_info.input_dict):
            if bucket.uri_of(Path(artifact.uri)):
                bucket_folders.pull(Path(artifact.uri))
                Path(artifact.uri).mkdir(parents=True, exist_ok=True)  # a bucket has no empty folders
        checkpoints = self._checkpoints()
        is_resumed = not checkpoints.exists() and bucket_folders.pull(checkpoints)  # this machine's are newer
        try:
            output = super()._run_executor(execution_info)
        except BaseException:
            bucket_folders.push(checkpoints)
            raise
        for artifact in _list_artifacts(execution_info.output_dict):
            bucket_folders.push(Path(artifact.uri))
        if is_resumed:
            bucket_folders.delete(checkpoints)
        return output

    def _checkpoints(self) -> Path:
        root = self._pipeline_runtime_spec.pipeline_root.field_value.string_value
        return Path(root, self._pipeline_node.node_info.id, TRAINING)


def _download(path: Path) -> None:
    """Download a file, a folder of ours, or data that others have written."""
    if not (bucket_folders.pull(path) or bucket.pull_file(path)):
        bucket_folders.pull_listed(path)


def _list_artifacts(artifacts: Any) -> list[Any]:
    return [artifact for group in (artifacts or {}).values() for artifact in group]
