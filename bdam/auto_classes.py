"""
Registers BDAM with the Auto classes of transformers, without importing transformers.

`AutoModel.from_pretrained` then loads a BDAM by the code that is installed, without `trust_remote_code`. Importing
transformers at once would make `import bdam` slow, so registration waits for the Auto classes to be imported.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


# Each module that defines an Auto class, and our module that defines what it is to know.
MODULES = {
    "transformers.models.auto.configuration_auto": "configuration_bdam",
    "transformers.models.auto.modeling_auto": "modeling_bdam",
    "transformers.models.auto.processing_auto": "processing_bdam",
}
WATCHED = (*MODULES.values(), *MODULES)


def register_auto_classes() -> None:
    """Registers our classes with the Auto classes that are imported, and with the others when they are imported."""
    imported = [name for name in WATCHED if name in sys.modules]
    sys.meta_path.insert(0, _ImportWatcher())
    for name in imported:
        _after_import(name)


def _after_import(name: str) -> None:
    """After an Auto class comes our module, and after our module its registration, whichever is imported first."""
    if name in MODULES:
        import_module(MODULES[name])
        return
    # One Auto class at a time: to import the others here would be a circle, since the import of one may be under way.
    from configuration_bdam import BDAMConfig

    if name == "configuration_bdam":
        from transformers import AutoConfig

        AutoConfig.register(BDAMConfig.model_type, BDAMConfig, exist_ok=True)
    elif name == "modeling_bdam":
        from transformers import AutoModel, AutoModelForZeroShotImageClassification

        from modeling_bdam import BDAMModel

        for auto_class in (AutoModel, AutoModelForZeroShotImageClassification):
            auto_class.register(BDAMConfig, BDAMModel, exist_ok=True)
    else:
        from transformers import AutoProcessor

        from processing_bdam import BDAMProcessor

        AutoProcessor.register(BDAMConfig, BDAMProcessor, exist_ok=True)


class _ImportWatcher(MetaPathFinder):
    """Calls `_after_import` when a watched module was imported, which the other finders find as ever."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in WATCHED:
            return None
        finders = (finder for finder in sys.meta_path if not isinstance(finder, _ImportWatcher))
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in finders)), None)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            _after_import(fullname)

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec
