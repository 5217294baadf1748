#!/bin/sh
# Make the packages of the image smaller: remove what no command uses, and the symbol tables of their libraries.
#     trim_packages.sh SITE_PACKAGES
# tests/kubernetes/test_dockerfile.py checks that the packages have what is removed. compile_imports.py, which runs after this,
# imports every module of ours, so that an image without something needed is not built.
set -eu
cd "$1"

# Headers, Clang's library, and LiteRT's GPU library and compiler: nothing is compiled, and there is no graphics driver.
rm -rf clang tensorflow/include pyarrow/include ai_edge_litert/libLiteRtWebGpuAccelerator.so ai_edge_litert/tools/apply_plugin_main
# Arrow's remote procedure calls.
rm -f pyarrow/libarrow_flight.so* pyarrow/libarrow_python_flight.so pyarrow/_flight.*
# Clients of Google's AI platform, which Beam and TFX bring for Google's own runners.
rm -rf google/cloud/aiplatform google/cloud/aiplatform_v1 google/cloud/aiplatform_v1beta1 google/genai vertexai agentplatform
# Examples, parts of notebooks, and TensorBoard's server: the pages are ours, and TensorBoard runs elsewhere.
rm -rf tfx/examples apache_beam/examples jedi/third_party widgetsnbextension tensorboard_data_server
find . -type d \( -name tests -o -name testdata \) -prune -exec rm -rf {} +

# Libraries in a folder *.libs were edited after linking, which strip does not expect.
find . -type f -name '*.so*' -not -path '*.libs/*' -exec strip --strip-unneeded {} +
