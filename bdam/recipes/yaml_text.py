"""Reads and writes YAML by the core schema of YAML 1.2, in which `no` is a word and `1e-3` a number."""

from typing import Any

import yaml
from yamlcore import CoreLoader


# Limits far above any recipe. Nested aliases can expand a short text beyond them.
MAX_BYTES = 1_000_000
MAX_VALUES = 100_000
MAX_DEPTH = 50


class _Dumper(yaml.SafeDumper):
    """Quotes strings that YAML 1.1 or 1.2 would read as another type."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _first, _resolvers in CoreLoader.yaml_implicit_resolvers.items():
    for _tag, _pattern in _resolvers:
        _Dumper.add_implicit_resolver(_tag, _pattern, [_first])


def parse_yaml(text: str | bytes, source: str) -> Any:
    """
    The value of a YAML document.

    Args:
        text: the document; if bytes, in UTF-8, or UTF-16 with a byte order mark.
        source: the name of the document in errors.

    Raises:
        ValueError: if it is not valid or too large, naming the source, the line and the reason.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"{source} is too large for a recipe: {len(text):,} bytes, where {MAX_BYTES:,} are the most.")
    try:
        value = yaml.load(text, Loader=CoreLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"{source} is not valid YAML: {_reason(error)}.") from None
    except RecursionError:
        raise ValueError(f"{source} is nested too deeply: {MAX_DEPTH} levels are the most.") from None
    except (ValueError, LookupError):  # raised by the constructors for `!!int x` and for 5,000 digits
        raise ValueError(f"{source} is not valid YAML: a value is not what its tag says, or too long.") from None
    check_extent(value, source)
    return value


def dump_yaml(values: dict[str, Any] | list[Any]) -> str:
    """The values as YAML text, which YAML 1.1 and YAML 1.2 read alike, in the given order."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)


def check_extent(value: Any, source: str) -> None:
    """
    Checks the size of a value after its aliases are expanded.

    Args:
        value: the value of a document.
        source: the name of the document in errors.

    Raises:
        ValueError: if it has more than `MAX_DEPTH` levels or `MAX_VALUES` values.
    """
    pending, count = [(value, 0)], 1
    while pending:
        item, depth = pending.pop()
        children = list(item.values()) if isinstance(item, dict) else item if isinstance(item, list) else []
        count += len(children)
        if depth > MAX_DEPTH or count > MAX_VALUES:
            raise ValueError(
                f"{source} is too large for a recipe: {MAX_DEPTH} levels and {MAX_VALUES:,} values are the most, with "
                "aliases expanded."
            )
        pending += [(child, depth + 1) for child in children]


def _reason(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark or error.context_mark):
        snippet = (mark.get_snippet() or "").strip().partition("\n")[0]
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}" + f", in `{snippet}`" * bool(snippet)
    if isinstance(error, yaml.reader.ReaderError):
        return f"{error.reason} at position {error.position}: save it as text in UTF-8"
    return " ".join(str(error).split())
