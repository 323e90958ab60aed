"""What a request may make the daemon open: addresses of allowed schemes, files of one directory.

The file of streams is the administrator's and is not asked for this. Whoever has the token may use
the machine's cameras and its encoder, but not read its files, send them anywhere, or name its
environment's variables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dualface_client.config.table import Setting, settings_table
from dualface_client.daemon.desired import DesiredStream
from dualface_client.settings.addresses import has_credentials, problem_of, scheme_of, shown
from dualface_client.settings.kinds import ExistingFile, Or, PhotoOrNumber, VariableName


@dataclass(frozen=True, slots=True)
class Refusal:
    """One thing that is wrong with a request.

    Attributes:
        field: Which part of it.
        text: What was given, what was expected and what to do; without secrets.
    """

    field: str
    text: str


@dataclass(frozen=True, slots=True)
class Policy:
    """What may be opened.

    Attributes:
        input_schemes: Of addresses to read.
        output_schemes: Of addresses to send to.
        input_directory: Files below it may be read; None for no files.
        output_directory: Files below it may be written; None for no files.
    """

    input_schemes: tuple[str, ...]
    output_schemes: tuple[str, ...]
    input_directory: Path | None = None
    output_directory: Path | None = None

    def refusals(self, stream: DesiredStream) -> list[Refusal]:
        """What of a stream may not be opened."""
        found = [
            Refusal("input", self._input_problem(stream.input)),
            *(Refusal("output", self._output_problem(text)) for text in stream.outputs),
            *self._setting_refusals(stream.settings),
        ]
        return [refusal for refusal in found if refusal.text]

    def _input_problem(self, text: str) -> str:
        if scheme_of(text) in ("", "file"):
            return _file_problem(text, self.input_directory, "daemon.input_directory")
        return _address_problem(text, self.input_schemes, "input")

    def _output_problem(self, text: str) -> str:
        if scheme_of(text) in ("", "file"):
            return _file_problem(text, self.output_directory, "daemon.output_directory")
        return _address_problem(text, self.output_schemes, "output")

    def _setting_refusals(self, settings: dict[str, str]) -> Iterator[Refusal]:
        for key, text in settings.items():
            setting = settings_table().get(key)
            if setting is None:
                continue  # an unknown one is refused where settings are read
            field = f"settings.{key}"
            if _names(setting, VariableName):
                yield Refusal(field, "may be set in the file of streams only; remove it")
            elif _names(setting, ExistingFile, PhotoOrNumber) and not _is_word(setting, text):
                problem = _file_problem(text, self.input_directory, "daemon.input_directory")
                yield Refusal(field, problem)


def _address_problem(text: str, schemes: tuple[str, ...], part: str) -> str:
    problem = problem_of(text, schemes, part)
    if problem and has_credentials(text) and scheme_of(text) in schemes:
        return (
            f"{shown(text)}: holds a user or password; leave them out, put them as USER:PASSWORD "
            f"into a file on the daemon's host, and name that in the setting "
            f"{part}.credentials_file, here if it is below daemon.input_directory, or in the file "
            "of streams"
        )
    return problem


def _names(setting: Setting, *kinds: type) -> bool:
    kind = setting.kind.kind if isinstance(setting.kind, Or) else setting.kind
    return isinstance(kind, kinds)


def _is_word(setting: Setting, text: str) -> bool:
    """Whether a text stands for something else than a file, such as `none` or `cast:2`."""
    kind = setting.kind
    return text.startswith("cast:") or (isinstance(kind, Or) and text == kind.word)


def _file_problem(text: str, directory: Path | None, setting: str) -> str:
    if directory is None:
        return (
            f"{shown(text)}: files are not opened for requests; expected an address, or set "
            f"{setting} to the directory whose files may be"
        )
    path = path_of(text)
    if not path.resolve().is_relative_to(directory.resolve()):
        return f"{shown(text)}: is not below {setting}; choose a file there"
    return ""


def path_of(text: str) -> Path:
    """The path of a file's name or `file:` address.

    >>> path_of("file:///videos/a%20b.mp4"), path_of("a.mp4")
    (PosixPath('/videos/a b.mp4'), PosixPath('a.mp4'))
    """
    if scheme_of(text) == "file":
        return Path(unquote(urlsplit(text).path))
    return Path(text)
