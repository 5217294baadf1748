# Needs Python 3.11 and make. Each target sets up what it lacks: uv into .tools, the locked packages into .venv.
# `make help` lists the targets: each says what it does behind the two number signs.
PYTHON ?= python3.11
UV = uv==0.13.8
ARGS ?=
JOBS ?= 2
# The program that builds and pushes the image, and the image's name, which the manifests and compose.yaml use too.
ENGINE ?= docker
IMAGE ?= showcase:$(shell sed -n '/^version = /{s/.*"\(.*\)"/\1/p;q}' pyproject.toml)
# A file to a process, the files in the order that tests/support/order.py gives them: the longest first.
SPREAD = --dist loadfile --no-loadscope-reorder
is_3_11 = import sys; print(sys.executable); sys.exit(sys.version_info[:2] != (3, 11))
say = echo "$(1)" >&2

define find_python
case "$$(uname -s) $$(uname -m)" in "Linux x86_64") ;; *) \
	$(call say,The lock file is for Linux on x86_64: use a container or such a machine.); exit 1 ;; esac; \
for python in "$(PYTHON)" python3 none; do \
	python=$$("$$python" -c "$(is_3_11)" 2>/dev/null) && break; \
done || { $(call say,Python 3.11 was not found: install it or run make PYTHON=/path/to/python3.11.); exit 1; }
endef

# Debian leaves ensurepip out of Python: then pip, if it is there, installs into a folder without a venv.
define find_uv
uv=$$(command -v uv || ls .tools/bin/uv .tools/lib/bin/uv 2>/dev/null | head -n 1); \
if [ -z "$$uv" ]; then \
	$(call say,Installing $(UV) into .tools); \
	if "$$python" -m venv --clear .tools >/dev/null 2>&1 && .tools/bin/python -m pip install --quiet $(UV); then \
		uv=.tools/bin/uv; \
	elif rm -rf .tools && "$$python" -m pip install --quiet --target .tools/lib $(UV); then \
		uv=.tools/lib/bin/uv; \
	else \
		$(call say,No uv: check the network or install python3-venv or python3-pip or uv itself.); exit 1; \
	fi; \
fi
endef

# LiteRT.js, which the browser page needs; npm says where its packages come from.
LITERT_JS = serving/browser/node_modules/.package-lock.json

# Flink and Beam's runner on it; pipeline/local/flink/pom.xml says where they come from.
FLINK = .tools/flink/.fetched

# Kubernetes' API server, for the tests that ask it; tests/kube-apiserver/go.mod says which.
API_SERVER = .tools/bin/kube-apiserver

# The other programs of a cluster of one node: Kubernetes' and etcd by the same file, DNS by one of its own.
KUBERNETES = $(addprefix .tools/bin/kube,-controller-manager -scheduler -proxy let)
ETCD = .tools/bin/etcd
DNS = .tools/bin/coredns .tools/bin/pause
CLUSTER = .venv/bin/python kubernetes/local-cluster/cluster.py

SBOM = dist/sbom.cdx.json

# One line if it cannot be installed: the demonstration shows everything else without it.
define install_browser_page
if [ -e $(LITERT_JS) ] || command -v npm >/dev/null; then \
	$(MAKE) -s browser || \
	$(call say,LiteRT.js was not installed: the tour runs no model in the browser. Check the network; then run make browser.); \
else \
	$(call say,npm was not found: the tour runs no model in the browser. Run apt-get install npm; then make browser.); \
fi
endef

define run_all_tests
$(MAKE) -s browser || $(call say,The tests of the browser page will be skipped.); \
.venv/bin/python -m pytest -q -n $(JOBS) $(SPREAD) -m "" --durations 25 $(1) $(ARGS)
endef

.PHONY: setup help demo check lint test test-all test-unit test-pipelines test-serving test-deploy \
	browser flink apiserver cluster cluster-programs cluster-test cluster-down image publish sbom clean

setup: .venv/.synced ## Install the locked packages into .venv

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## Run both pipelines, serve the models, let the traffic drift, and show the tour
	@$(call install_browser_page)
	@echo "Running both pipelines on the data that comes with them"
	@.venv/bin/showcase demo $(ARGS)

check: lint ## Lint, then run the tests that start no pipeline, server or process
	@echo "Running the tests that start no pipeline, server or process"
	@.venv/bin/python -m pytest -q -n $(JOBS) $(SPREAD) -m "not slow and not system" $(ARGS)

lint: setup ## Check rules, format, types and the direction of imports
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-logo

test: setup ## Run all tests but the slow ones
	@echo "Running the tests, without the slow ones"
	@$(MAKE) -s browser || $(call say,The tests of the browser page will be skipped.)
	@.venv/bin/python -m pytest -q -n $(JOBS) $(SPREAD) -m "not slow" $(ARGS)

test-all: setup ## Run all tests
	@echo "Running all tests"
	@$(call run_all_tests)

# The four parts of test-all, for jobs that run at the same time: every test is in exactly one.
test-unit: setup ## Run all tests of models, components, commands, benchmarks and the repository
	@$(call run_all_tests,tests/benchmarks tests/cli tests/components tests/models tests/repository)

test-pipelines: setup ## Run all tests of pipelines on this machine and of the tour
	@$(call run_all_tests,tests/pipeline tests/tour --ignore=tests/pipeline/kubeflow)

test-serving: setup ## Run all tests of model server, gateway, drift, edge and browser
	@$(call run_all_tests,tests/serving)

test-deploy: setup ## Run all tests of manifests, Kubeflow and Jobs
	@$(call run_all_tests,tests/kubernetes tests/pipeline/kubeflow)

browser: $(LITERT_JS) ## Install LiteRT.js for the page that runs a model in the browser; needs npm

flink: $(FLINK) ## Fetch Flink and Beam's runner on it (160 MB); needs Maven

apiserver: $(API_SERVER) $(ETCD) ## Build the Kubernetes API server that judges the manifests (15 minutes); needs Go

cluster-programs: $(API_SERVER) $(ETCD) $(KUBERNETES) $(DNS) ## Build the programs of a cluster of one node (20 minutes); needs Go

cluster: cluster-programs ## Start a Kubernetes cluster of one node on this machine; needs root
	@$(CLUSTER) start $(ARGS)

cluster-down: setup ## Stop that cluster and remove what it wrote
	@$(CLUSTER) stop

cluster-test: setup ## Test the manifests on the cluster that KUBECONFIG names, by default that of make cluster
	@SHOWCASE_CLUSTER="$${KUBECONFIG:-$(CURDIR)/.tools/cluster/kubeconfig}" .venv/bin/python -m pytest -v -n 0 -m cluster tests/kubernetes $(ARGS)

image: ## Build the image of the Dockerfile for Linux on x86-64; needs Docker
	@echo "Building $(IMAGE)"
	@$(ENGINE) build --platform linux/amd64 --tag "$(IMAGE)" .

publish: ## Push the image and write its digest to dist/image.digest; needs a login
	@mkdir -p dist
	@$(ENGINE) push "$(IMAGE)"
	@name=$$($(ENGINE) inspect --format '{{index .RepoDigests 0}}' "$(IMAGE)") && echo "$${name##*@}" > dist/image.digest

# The groups that the Dockerfile installs. uv calls this format of its export a preview; what it writes is CycloneDX 1.5.
sbom: ## Write the image's Python packages from the lock file as CycloneDX to dist/sbom.cdx.json
	@$(find_python); $(find_uv); \
	echo "Writing $(SBOM)"; \
	mkdir -p dist && "$$uv" export --frozen --quiet --format cyclonedx1.5 --no-default-groups --group kubeflow \
		--python "$$python" --no-python-downloads --output-file $(SBOM)

clean: ## Remove .venv, .tools and caches; runs stay
	@echo "Removing .venv, .tools and caches; runs stay"
	@rm -rf .venv .tools serving/browser/node_modules build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis

# Compiled once here, as a run starts many processes, and where Python may not write bytecode each would compile TensorFlow.
.venv/.synced: pyproject.toml uv.lock
	@$(find_python); $(find_uv); \
	echo "Installing the locked packages into .venv (the first time takes minutes)"; \
	UV_PROJECT_ENVIRONMENT=.venv "$$uv" sync --frozen --quiet --no-python-downloads --compile-bytecode --python "$$python"
	@touch $@

$(LITERT_JS): serving/browser/package-lock.json
	@command -v npm >/dev/null || { $(call say,npm was not found: install it with apt-get install npm.); exit 1; }
	@echo "Installing LiteRT.js into serving/browser/node_modules"
	@npm ci --prefix serving/browser --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# After the setup, which may empty .tools.
$(FLINK): pipeline/local/flink/pom.xml | .venv/.synced
	@command -v mvn >/dev/null || { $(call say,mvn was not found: install it with apt-get install maven.); exit 1; }
	@echo "Fetching Flink and Beam's runner on it into .tools/flink (160 MB)"
	@rm -rf .tools/flink
	@mvn --quiet --batch-mode --file pipeline/local/flink/pom.xml dependency:copy-dependencies -DoutputDirectory="$(CURDIR)/.tools/flink"
	@touch $@

# Programs of Go, without debugging symbols; Kubernetes' report the version of the file that says which they are.
define build_go
@command -v go >/dev/null || { $(call say,go was not found: install Go 1.24 or newer.); exit 1; }
@echo "Building $(notdir $@) into .tools/bin"
@cd $(1) && version=$$(sed -n 's|^require k8s.io/kubernetes ||p' go.mod) && CGO_ENABLED=0 \
	go build -trimpath -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$$version" -o "$(CURDIR)/$@" $(2)
endef

$(API_SERVER) $(KUBERNETES): tests/kube-apiserver/go.mod tests/kube-apiserver/go.sum | .venv/.synced
	$(call build_go,tests/kube-apiserver,k8s.io/kubernetes/cmd/$(notdir $@))

$(ETCD): tests/kube-apiserver/go.mod tests/kube-apiserver/go.sum | .venv/.synced
	$(call build_go,tests/kube-apiserver,go.etcd.io/etcd/server/v3)

$(DNS): kubernetes/local-cluster/programs/go.mod kubernetes/local-cluster/programs/go.sum | .venv/.synced
	$(call build_go,kubernetes/local-cluster/programs,./$(notdir $@))
