"""Sends data sets to the Hub, from where `hf:USER/NAME` reads them."""

from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict
from huggingface_hub import DatasetCard, DatasetCardData, HfApi

from bdam.data.benchmarks import BENCHMARKS, VERDICTS, check_benchmark
from bdam.data.images import read_column
from bdam.data.loading import read_data, split_source
from bdam.data.pedestrians import SIZES, find_size
from bdam.data.schema import TEXT_COLUMNS, choose_split
from bdam.evaluation.report import markdown_table
from bdam.hub.publishing import check_repo_id, upload_error
from bdam.hub.results import FITTING_QUERIES
from bdam.recipes.yaml_text import dump_yaml


TEMPLATE = Path(__file__).with_name("data_card.md")
TERMS = "The license of the images applies to you as well, and you must have the right to use images of these people."


def push_data(
    source: str, repo_id: str, license: str, private: bool = True, gated: bool = False, benchmark: bool = False
) -> str:
    """
    Sends all splits of a data set, as parquet files that hold the images, and a card; returns the URL.

    Args:
        source: see [`load_data`]. A benchmark is checked first.
        repo_id: of the repository, `USER/NAME`, which is made if there is none.
        license: its name on the Hub, such as `cc-by-4.0` or `other`.
        private: whether a new repository is private.
        gated: whether visitors of a public repository must agree to the terms before they download.
        benchmark: whether the Hub may list the scores of models on it, which `eval.yaml` and the card say.

    Raises:
        FileNotFoundError: see [`load_data`].
        ValueError: see [`load_data`]; also if a benchmark is unfit, `repo_id` is not `USER/NAME`, or what is to be a
            benchmark has no split test.
        ConnectionError: if the Hub cannot be reached, or refuses.
    """
    check_repo_id(repo_id)
    data = read_data(source)
    for part in split_source(source):
        if part.partition(":")[0] in BENCHMARKS and check_benchmark(part).verdict == VERDICTS[-1]:
            raise ValueError(f"{part} is unfit: run `bdam data check {part}`, mend what it names, and push it then.")
    tasks = benchmark_tasks(choose_split(data, "test", source), repo_id) if benchmark else None
    card = build_data_card(data, repo_id, license, gated, tasks)
    api = HfApi()
    add = partial(api.upload_file, repo_id=repo_id, repo_type="dataset")
    try:
        url = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        if gated:
            api.update_repo_settings(repo_id, gated="auto", repo_type="dataset")
        # First, so that it is not there without its license; `datasets` adds the features to its metadata.
        add(path_in_repo="README.md", path_or_fileobj=str(card).encode())
        data.push_to_hub(repo_id)
        if tasks is not None:
            add(path_in_repo="eval.yaml", path_or_fileobj=dump_yaml(tasks).encode())
    except Exception as error:  # of the Hub, of the HTTP library or built-in
        raise upload_error(repo_id, "not complete", error) from error
    return str(url)


def benchmark_tasks(test: Dataset, repo_id: str) -> dict[str, Any]:
    """What `eval.yaml` says of a benchmark: a task for each protocol that the split test allows."""
    has_outfits = None not in read_column(test, "outfit_id")
    protocols = [protocol for protocol in FITTING_QUERIES if has_outfits or protocol == "standard"]
    return {
        "name": repo_id.split("/")[1],
        "description": "Text-to-image person retrieval: R-1 in percent, on images alone.",
        "evaluation_framework": "bdam",
        "tasks": [{"id": protocol, "config": "default", "split": "test"} for protocol in protocols],
    }


def build_data_card(
    data: DatasetDict, repo_id: str, license: str, gated: bool, tasks: dict[str, Any] | None = None
) -> DatasetCard:
    """
    The card of a data set: its license, what is in its splits, and how it is read. That of a benchmark says how models
    are scored and, if it is a size of the generated pedestrians, its checksums.

    Args:
        data: the splits.
        repo_id: of the repository, `USER/NAME`.
        license: its name on the Hub.
        gated: whether visitors must agree to the terms.
        tasks: see [`benchmark_tasks`]; None if the data is to be no benchmark.
    """
    lines = [["split", "images", "persons", "captions", "described"]]
    persons: set[int] = set()
    for split, rows in data.items():
        of_split = {*read_column(rows, "person_id")}
        persons |= of_split
        captions, identity, clothing = (read_column(rows, column) for column in TEXT_COLUMNS)
        described = sum(bool(one and other) for one, other in zip(identity, clothing, strict=True))
        lines.append([split, *map(str, (len(rows), len(of_split), sum(map(len, captions)), described))])
    size = find_size(data) if tasks else None
    return DatasetCard.from_template(
        DatasetCardData(
            license=license,
            tags=["person-retrieval", "text-to-image-retrieval"],
            task_categories=["image-feature-extraction"],
            extra_gated_prompt=TERMS if gated else None,
        ),
        template_path=str(TEMPLATE),
        repo_id=repo_id,
        images=sum(map(len, data.values())),
        persons=len(persons),
        table=markdown_table(lines),
        gated=gated,
        protocols=[task["id"] for task in tasks["tasks"]] if tasks else [],
        size=size,
        drawn=SIZES[size] if size else None,
    )
