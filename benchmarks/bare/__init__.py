"""The bare peer: what ``showcase run fraud`` does, as plain Python without TFX, Beam or any of their libraries.

It reads the same spans, derives the same features in its own way, fits the same network and baselines, evaluates, exports,
checks and copies, all in memory and in one process. What it leaves out is what the pipeline is for: artifacts, a cache,
lineage, resuming, splits that fit no memory. ``benchmarks/pipeline.py`` times the two side by side.

    python -m benchmarks.bare --data FOLDER [--out FOLDER]
"""

import os
import sys
from types import ModuleType

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# The module of the features' formulas imports TFT for a function that is not called here: an empty one spares its seconds.
sys.modules["tensorflow_transform"] = ModuleType("tensorflow_transform")
