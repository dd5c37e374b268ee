# The two commands of the README are `make demo` and `make test`; both make what they need first.
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint parts bench lock clean

demo: $(READY)
	$(BIN)/fleet demo

# Of lint and parts one computes and the other downloads.
test: $(READY)
	$(MAKE) --no-print-directory -j2 lint parts
	$(BIN)/python -m pytest $(ARGS)

parts:
	./scripts/system-parts

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(READY)
	-$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m benchmarks

# The environment: pinned and hashed; made anew when what it is made from changes.
$(READY): requirements.lock pyproject.toml scripts/bootstrap
	./scripts/bootstrap $(VENV)
	@touch $@

# For maintainers: pin anew. Needs uv; the files it writes name no host.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  --extra dev -q -o requirements.lock pyproject.toml
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  -q -o benchmarks/peers/peers.lock benchmarks/peers/peers.in
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  -q -o tests/system/poetry.lock tests/system/poetry.in
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  -c requirements.lock -q -o images/requirements-edge.lock pyproject.toml
	sed -n 's/^agent = "\([0-9.]*\)".*/clearml-agent==\1/p' images/versions.toml | \
	  uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  -c requirements.lock -q -o images/requirements-agent.lock -

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
