"""The page of the Space: a form for the arguments as JSON, and the metrics.

`evaluate.utils.launch_gradio_widget` passes queries only, no gallery, and needs a gradio older than 4.
"""

import json
from pathlib import Path

import evaluate
import gradio
from evaluate.utils.gradio import parse_readme


EXAMPLE = """{
  "predictions": [[1.0, 0.0], [0.0, 1.0]],
  "references": [7, 8],
  "gallery_embeds": [[0.9, 0.1], [0.8, 0.6], [0.2, 0.7]],
  "gallery_person_ids": [8, 7, 8]
}"""

here = Path(__file__).parent
metric = evaluate.load(str(here / "person_retrieval.py"))


def compute(arguments: str) -> dict:
    return metric.compute(**json.loads(arguments))


page = gradio.Interface(
    compute,
    inputs=gradio.Code(EXAMPLE, language="json", label="Arguments of compute"),
    outputs=gradio.JSON(label="Metrics"),
    title="Person retrieval",
    description=metric.description,
    article=parse_readme(here / "README.md"),
    flagging_mode="never",
)

if __name__ == "__main__":
    page.launch(show_error=True)
