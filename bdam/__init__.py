"""
Text-to-image person retrieval that separates who a person is from what they wear.

All public names are here. Each is imported when it is first used, so that `import bdam` is fast and
imports no PyTorch.

Example:

```python
>>> import bdam
>>> gallery = bdam.Gallery.from_images("outputs/demo/model", "images")
>>> hits = gallery.search("A tall man in a red coat.", clothing_weight=0.3, k=5)
>>> len(hits)
5
```"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bdam.auto_classes import register_auto_classes


if TYPE_CHECKING:
    from bdam.captions.describing import describe_images as describe
    from bdam.data.loading import load_data
    from bdam.evaluation.evaluate import evaluate_checkpoint
    from bdam.evaluation.metrics import retrieval_metrics
    from bdam.recipes.recipe import load_recipe
    from bdam.retrieval.embedder import Embedder
    from bdam.retrieval.gallery import Gallery
    from bdam.training.loop import train
    from configuration_bdam import BDAMConfig
    from modeling_bdam import BDAMModel
    from processing_bdam import BDAMProcessor

__version__ = "0.1.0"
__all__ = [
    "BDAMConfig",
    "BDAMModel",
    "BDAMProcessor",
    "Embedder",
    "Gallery",
    "describe",
    "evaluate_checkpoint",
    "load_data",
    "load_recipe",
    "retrieval_metrics",
    "train",
]

# Where each public name is defined, as module:name. Type checkers read the imports above.
_DEFINED_AT = {
    "BDAMConfig": "configuration_bdam:BDAMConfig",
    "BDAMModel": "modeling_bdam:BDAMModel",
    "BDAMProcessor": "processing_bdam:BDAMProcessor",
    "Embedder": "bdam.retrieval.embedder:Embedder",
    "Gallery": "bdam.retrieval.gallery:Gallery",
    "describe": "bdam.captions.describing:describe_images",
    "evaluate_checkpoint": "bdam.evaluation.evaluate:evaluate_checkpoint",
    "load_data": "bdam.data.loading:load_data",
    "load_recipe": "bdam.recipes.recipe:load_recipe",
    "retrieval_metrics": "bdam.evaluation.metrics:retrieval_metrics",
    "train": "bdam.training.loop:train",
}


def __getattr__(name: str) -> Any:
    if name not in _DEFINED_AT:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _DEFINED_AT[name].partition(":")
    globals()[name] = value = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


register_auto_classes()
