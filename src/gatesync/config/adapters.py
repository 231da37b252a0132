"""Finds what an extension point is filled with, by the name that the configuration gives."""

from difflib import get_close_matches
from importlib import import_module
from typing import Any

from gatesync.config.problems import ConfigError, ConfigProblem

__all__ = ["WSO2_NAMES", "adapter_names", "load_adapter"]

# Not DBRetriever: what that is depends on what else the file says (`gatesync.cli.retrieving`).
WSO2_NAMES = {
    "DBSaver": "sql",
    "GitSaver": "git",
    "GitRetriever": "git",
    "GHSynchronizerSaver": "git",  # of WSO2's sample, whose layout in the repository is another
    "GHSynchronizerRetriever": "git",
    "SharedFileSystemSaver": "share",
    "SharedFileSystemRetriever": "share",
}
INSTALL = "install the package, or the extra of gatesync, that it needs"


def adapter_names(group: str) -> list[str]:
    """The names that installed packages offer for an extension point, sorted."""
    return sorted({point.name for point in _entry_points(group)})


def load_adapter(group: str, name: str, key: str = "") -> Any:
    """The callable that an adapter's name stands for.

    Args:
        group: the entry-point group, such as `gatesync.stores`.
        name: an entry point's name, one of WSO2's own (`DBSaver`), or `module:attribute`.
        key: the dotted configuration key that holds the name, for messages.

    Raises `ConfigError` when there is no such adapter (it lists those there are), or when the
    adapter cannot be imported (it says what is missing).
    """

    def refused(message: str) -> ConfigError:
        return ConfigError([ConfigProblem(message, key)])

    name = WSO2_NAMES.get(name, name)
    if ":" in name:
        module_name, _, attribute = name.partition(":")
        try:
            return getattr(import_module(module_name), attribute)
        except (ImportError, ValueError) as error:
            raise refused(f"adapter {name!r} cannot be imported: {error}; {INSTALL}") from error
        except AttributeError:
            raise refused(f"module {module_name} has no {attribute!r}") from None
    for point in _entry_points(group):
        if point.name == name:
            try:
                return point.load()
            except (ImportError, AttributeError) as error:
                raise refused(f"adapter {name!r} cannot be imported: {error}; {INSTALL}") from error
    names = adapter_names(group)
    near = get_close_matches(name, names, 1)
    raise refused(
        f"there is no adapter {name!r} in {group}"
        + (f"; did you mean {near[0]!r}?" if near else "")
        + f" Installed: {', '.join(names) or 'none'}. A name of the form module:attribute works too"
    )


def _entry_points(group: str) -> Any:
    # Not at the top: importing it takes 15 ms and megabytes that few processes need.
    from importlib.metadata import entry_points

    return entry_points(group=group)
