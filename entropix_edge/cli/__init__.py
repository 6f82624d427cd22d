"""The command line. One file a command; errors become one line and an exit code here."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import NoReturn

import click

from .. import __version__
from ..errors import ConfigError, EntropixError
from . import streams

EXIT_FAILED, EXIT_USAGE, EXIT_ABSTAINED, EXIT_INTERRUPTED = 1, 2, 3, 130

NAME = "entropix-edge"
COMPLETION = "_ENTROPIX_EDGE_COMPLETE"

_COMMANDS = {
    "generate": "Answer a prompt.",
    "chat": "Hold a conversation with a model.",
    "serve": "Serve a model to OpenAI's clients.",
    "plot": "Draw traces, calibrations and evaluations.",
    "info": "Describe a GGUF file, and what this machine can do with it.",
    "calibrate": "Fit the strategy's thresholds to a model.",
    "eval": "Compare strategies on problems with known answers.",
    "replay": "Count votes again on recorded candidates.",
    "bench": "Measure how fast a model runs here.",
    "pull": "Fetch a model.",
    "ls": "List the models on this machine.",
    "rm": "Remove a model from this machine.",
    "worker": "Compute layers for a model on another machine.",
    "doctor": "Look for what is wrong with this machine's setup.",
    "completion": "Print the completion script of a shell.",
}

_WITHOUT_CONFIG = ("doctor", "completion")  # they must run, whatever config.toml holds


class _Commands(click.Group):
    """Imports a command's file, and what reads options, when a command is used, so that `--help` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        from .defaults import name_variables

        module = __import__(f"{__package__}.{name}", fromlist=["command"])
        command: click.Command = module.command
        name_variables(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from .defaults import config_path, read_config, set_from_file, set_from_load_mode
        from .parameters import with_optional_numbers

        name, command, rest = super().resolve_command(ctx, args)
        if name and command and name not in _WITHOUT_CONFIG:
            with contextlib.suppress(FileNotFoundError):  # a user without a home
                set_from_file(ctx, name, command, read_config(config_path(), lambda: self._all(ctx)))
            set_from_load_mode(ctx, name, command)
        return name, command, with_optional_numbers(command, rest) if command else rest

    def _all(self, ctx: click.Context) -> dict[str, click.Command]:
        commands = ((name, self.get_command(ctx, name)) for name in _COMMANDS)
        return {name: command for name, command in commands if command}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Each command has its own --help. Exit codes: 0 done, 1 failed, 2 usage, 3 abstained, 130 interrupted.",
)
@click.version_option(__version__, prog_name=NAME)
def cli() -> None:
    """Run any GGUF model on this machine, with decoding guided by the model's own uncertainty.

    Without a command, in a terminal: `chat` with the default model.
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit the process."""
    code = run(arguments)
    streams.close()
    sys.exit(code)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    streams.set_up()
    given = list(sys.argv[1:] if arguments is None else arguments) or _default()
    try:
        code = _invoke(given)
        streams.flush()
        return code
    except (KeyboardInterrupt, click.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read our output has gone: that is no failure
        return 0
    except EntropixError as error:
        from .hints import explain

        return _fail(
            explain(error, _command(given)), EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED, error
        )
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", EXIT_FAILED, error)
    except MemoryError as error:
        return _fail("this machine has not enough memory for that", EXIT_FAILED, error)


def _default() -> list[str]:
    """What is done without a command: in a terminal a conversation, else help."""
    in_terminal = all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
    return ["chat"] if in_terminal and COMPLETION not in os.environ else []


def _invoke(arguments: list[str]) -> int:
    try:
        if COMPLETION in os.environ:
            cli.main(prog_name=NAME, complete_var=COMPLETION)
        # not `cli.main`, which ends the process itself, with an exit code of its own where a pipe has closed
        with cli.make_context(NAME, list(arguments), obj=list(arguments)) as context:
            result = cli.invoke(context)
        return result if isinstance(result, int) else 0
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 0
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        from .defaults import with_origin

        with contextlib.suppress(OSError):
            with_origin(error).show()
        return error.exit_code


def _command(arguments: list[str]) -> click.Command | None:
    """The command that was given: the group's own options take no values."""
    name = next((argument for argument in arguments if not argument.startswith("-")), "")
    return cli.get_command(click.Context(cli), name)


def _fail(message: str, code: int, error: BaseException) -> int:
    logging.getLogger("entropix_edge").debug("the error in full", exc_info=error)
    with contextlib.suppress(OSError):  # standard error cannot be written either
        from .console import plain

        click.echo(f"Error: {plain(message)}", err=True)
    return code
