# syntax=docker/dockerfile:1
# One image for all roles: pipeline tasks, training, metadata server, gateway, commands. Built from the lock file alone.
FROM python:3.11-slim-trixie AS uv
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 PIP_NO_CACHE_DIR=1
RUN pip install uv==0.13.8

# For .devcontainer: `make setup` installs the packages into the checkout.
FROM uv AS dev
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ git libgomp1 make npm \
    && rm -rf /var/lib/apt/lists/*

FROM uv AS build
WORKDIR /app
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils \
    && rm -rf /var/lib/apt/lists/*
# The packages first: they change less often than the code, and this layer is the large one. Without what no run uses:
# TensorFlow's headers and symbol tables, Clang's library, and the tests in the packages (0.8 GB).
COPY pyproject.toml uv.lock README.md LICENSE THIRD_PARTY.md ./
RUN uv sync --frozen --no-default-groups --group kubeflow --no-install-project --no-python-downloads \
    && rm -rf .venv/lib/python3.11/site-packages/clang .venv/lib/python3.11/site-packages/tensorflow/include \
    && find .venv/lib/python3.11/site-packages -type d -name tests -prune -exec rm -rf {} + \
    && strip --strip-unneeded .venv/lib/python3.11/site-packages/tensorflow/libtensorflow_cc.so.2 \
       .venv/lib/python3.11/site-packages/tensorflow/libtensorflow_framework.so.2
COPY cli cli
COPY pipeline pipeline
COPY components components
COPY models models
COPY serving serving
COPY tour tour
COPY kubernetes kubernetes
RUN uv sync --frozen --no-default-groups --group kubeflow --no-python-downloads

FROM python:3.11-slim-trixie
# LightGBM's wheel leaves OpenMP to the system.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin showcase \
    && install --directory --owner showcase --group showcase /showcase
COPY --from=build /app /app
ENV PATH=/app/.venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp SHOWCASE_HOME=/showcase
WORKDIR /app
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
ENTRYPOINT []
CMD ["showcase", "--help"]
