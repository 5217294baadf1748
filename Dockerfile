# syntax=docker/dockerfile:1
# One image for all roles: pipeline tasks, training, metadata server, gateway, commands. Built from the lock file alone.
FROM python:3.11-slim-trixie AS uv
ENV UV_LINK_MODE=copy UV_NO_CACHE=1 PIP_NO_CACHE_DIR=1
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
# The packages first: they change less often than the code, and this layer is the large one.
COPY pyproject.toml uv.lock README.md LICENSE THIRD_PARTY.md ./
COPY kubernetes/image kubernetes/image
RUN uv sync --frozen --no-default-groups --group kubeflow --no-install-project --no-python-downloads \
    && kubernetes/image/trim_packages.sh .venv/lib/python3.11/site-packages
COPY cli cli
COPY pipeline pipeline
COPY components components
COPY models models
COPY serving serving
COPY tour tour
RUN uv sync --frozen --no-default-groups --group kubeflow --no-python-downloads \
    && PYTHONPATH=/app .venv/bin/python kubernetes/image/compile_imports.py

FROM python:3.11-slim-trixie
# LightGBM's wheel leaves OpenMP to the system.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin showcase \
    && install --directory --owner showcase --group showcase /showcase
# The packages are a layer of their own, which a change of the code does not touch.
COPY --from=build /app/.venv /app/.venv
COPY --from=build /app/cli /app/cli
COPY --from=build /app/pipeline /app/pipeline
COPY --from=build /app/components /app/components
COPY --from=build /app/models /app/models
COPY --from=build /app/serving /app/serving
COPY --from=build /app/tour /app/tour
COPY kubernetes /app/kubernetes
COPY pyproject.toml README.md LICENSE THIRD_PARTY.md /app/
ENV PATH=/app/.venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOME=/tmp SHOWCASE_HOME=/showcase
WORKDIR /app
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
ENTRYPOINT []
CMD ["showcase", "--help"]
