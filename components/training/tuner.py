"""TFX's Tuner, extended to record the loss curves of its trials."""

from pathlib import Path
from typing import Any

from tfx import types
from tfx.components.tuner import component, executor
from tfx.dsl.components.base import executor_spec
from tfx.types import artifact_utils, standard_component_specs


class Executor(executor.Executor):
    """Searches as TFX's executor does, and writes the search's own report next to the results."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Run the search of ``tuner_fn``; write the best values, a row for each trial, and ``curves.json``."""
        search = executor.search(input_dict, exec_properties, self._get_tmp_dir())
        results = artifact_utils.get_single_uri(output_dict[standard_component_specs.TUNER_RESULTS_KEY])
        search.save_report(Path(results))
        executor.write_best_hyperparameters(search, output_dict)


class Tuner(component.Tuner):
    """TFX's component with the executor above, which its constructor does not accept as an argument."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)
