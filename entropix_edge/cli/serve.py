"""`entropix-edge serve`: a model behind HTTP, for OpenAI's clients."""

import dataclasses
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import click

from ..config import DEFAULT_CTX_SIZE
from ..encoding import decode_text
from ..engine_config import AttentionChoice, EngineConfig
from ..strategy import load_preset
from .console import console
from .engine_options import EngineOptions
from .options import ModelOptions, SamplingOptions, attention_option, takes, verbose_option
from .parameters import Length
from .profiles import profile_option
from .session import Session, fetch

if TYPE_CHECKING:
    from ..engine import Engine
    from ..llama import Header
    from ..server import Settings

# annotations are not deferred here: the options in them would be compiled anew at each start

_PORT = 8717  # nobody else's: not llama-server's, Ollama's, LM Studio's or vLLM's
_FORKS = 8


class ServerSamplingOptions(SamplingOptions):
    """How tokens are chosen where a request does not say."""

    n_predict: Annotated[
        int,
        click.option(
            "-n",
            "--n-predict",
            "--max-tokens",
            type=Length(),
            default=1024,
            help="Most tokens of a reply whose request names no limit. Default: 1024.",
        ),
    ]


class ServerOptions(NamedTuple):
    """Where to listen, for whom, and how much."""

    host: Annotated[str, click.option("--host", default="127.0.0.1", help="Address to listen on. Default: 127.0.0.1.")]
    port: Annotated[
        int,
        click.option(
            "--port", type=click.IntRange(0, 65535), default=_PORT, help=f"Port; 0 for any free one. Default: {_PORT}."
        ),
    ]
    parallel: Annotated[
        int,
        click.option(
            "-np",
            "--parallel",
            type=click.IntRange(1, 256 - _FORKS),
            default=4,
            metavar="N",
            help="Replies generated side by side, each with a context of its own. Default: 4.",
        ),
    ]
    queue: Annotated[
        int,
        click.option(
            "--queue", type=click.IntRange(min=0), default=32, metavar="N", help="Replies that may wait. Default: 32."
        ),
    ]
    max_body: Annotated[
        int,
        click.option(
            "--max-body",
            type=click.IntRange(min=1),
            default=20,
            metavar="MIB",
            help="Largest request. Default: 20 MiB.",
        ),
    ]
    timeout: Annotated[
        float,
        click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            default=600.0,
            metavar="SECONDS",
            help="Longest time for a request. Default: 600.",
        ),
    ]
    api_key: Annotated[
        tuple[str, ...],
        click.option(
            "--api-key",
            multiple=True,
            metavar="KEY",
            help="A key that requests must bring. Repeatable. Others on this machine can see it here, in the "
            "environment or a file they cannot.",
        ),
    ]
    api_key_file: Annotated[
        Path | None,
        click.option(
            "--api-key-file",
            type=click.Path(path_type=Path, dir_okay=False, exists=True),
            metavar="FILE",
            help="A file with such keys, one a line.",
        ),
    ]
    cors_origins: Annotated[
        tuple[str, ...],
        click.option(
            "--cors-origins",
            multiple=True,
            metavar="ORIGIN",
            help="Let pages of this origin call, such as http://localhost:3000; * for all. Repeatable. "
            "Default: the server's own.",
        ),
    ]
    alias: Annotated[str | None, click.option("--alias", metavar="NAME", help="The model's name for clients.")]
    page: Annotated[bool, click.option("--page/--no-page", default=True, help="Show a page at /. Default: yes.")]
    strict_model: Annotated[
        bool, click.option("--strict-model", is_flag=True, help="Refuse requests for a model of another name.")
    ]

    def keys(self) -> tuple[str, ...]:
        """The keys of the option, the environment and the file.

        Raises:
            click.UsageError: the file has none.
        """
        if self.api_key_file is None:
            return self.api_key
        lines = decode_text(self.api_key_file.read_bytes(), str(self.api_key_file)).splitlines()
        found = tuple(line.strip() for line in lines if line.strip())
        if not found:
            raise click.UsageError(f"--api-key-file: {self.api_key_file} holds no key: it must have one a line")
        return self.api_key + found


@click.command("serve")
@takes(model=ModelOptions, engine=EngineOptions)
@attention_option("last", "last")
@profile_option
@takes(sampling=ServerSamplingOptions, server=ServerOptions)
@verbose_option
def command(
    model: ModelOptions,
    engine: EngineOptions,
    attention: AttentionChoice,
    sampling: ServerSamplingOptions,
    server: ServerOptions,
) -> int:
    """Serve a model to OpenAI's clients.

    Each of the --parallel conversations may use -c tokens. Sampling options hold where a request does not say
    otherwise. SIGTERM and Ctrl-C let running replies finish, for ten seconds at most; a second one does not.
    """
    _check_installed()
    keys = server.keys()
    sampling.config(load_preset)  # what is wrong there is said before the model is loaded
    with Session() as session:
        path = fetch(model.name, offline=model.offline)
        settings = _settings(model, path, engine, sampling, server, keys)
        config = dataclasses.replace(
            engine.config(attention),
            ctx_size=settings.ctx_size * server.parallel,
            sequences=server.parallel,
            forks=_FORKS,
        )
        with session.computing(config):
            _serve(path, config, settings)
    return 0


def _check_installed() -> None:
    try:
        from .. import server  # noqa: F401
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise click.ClickException(
            f"serve needs {package}, which is not installed: pip install 'entropix-edge[server]'"
        ) from error


def _settings(
    model: ModelOptions,
    path: Path,
    engine: EngineOptions,
    sampling: ServerSamplingOptions,
    server: ServerOptions,
    keys: tuple[str, ...],
) -> "Settings":
    from ..llama import read_header
    from ..server import Settings

    return Settings(
        defaults=sampling.config,
        alias=server.alias or _alias(model.name, path),
        ctx_size=_context_size(engine.ctx_size, read_header(path)),
        parallel=server.parallel,
        queue=server.queue,
        host=server.host,
        port=server.port,
        strict_model=server.strict_model,
        page=server.page,
        api_keys=keys,
        cors_origins=server.cors_origins,
        max_body=server.max_body * 2**20,
        timeout=server.timeout,
    )


def _alias(name: str, path: Path) -> str:
    """What the user called the model, or its file's name."""
    return path.name.removesuffix(".gguf") if name.endswith(".gguf") else name


def _context_size(asked: int | None, header: "Header") -> int:
    """Tokens for one conversation: never more than the model was trained for."""
    trained = header.context_length or DEFAULT_CTX_SIZE
    if not asked:
        return trained if asked == 0 else min(trained, DEFAULT_CTX_SIZE)
    if asked > trained:
        console().print(
            f"Warning: -c is {asked} and the model was trained for {trained} tokens: {trained} are used", markup=False
        )
    return min(asked, trained)


def _serve(path: Path, config: EngineConfig, settings: "Settings") -> None:
    from ..addresses import is_loopback
    from ..engine import Engine
    from ..server import Server

    if not settings.api_keys and not is_loopback(settings.host):
        console().print(
            f"Warning: {settings.host} can be reached from other machines, and no --api-key is asked for", markup=False
        )

    def open_engine(cancelled: Callable[[], bool]) -> "Engine":
        return Engine.open(path, config, cancelled=cancelled)

    _log_requests()
    Server(open_engine, settings, lambda url: _announce(url, settings)).run()


def _announce(url: str, settings: "Settings") -> None:
    cells = settings.ctx_size * settings.parallel
    console().print(
        f"{settings.alias}: {settings.parallel} conversations of {settings.ctx_size} tokens, {cells} in all",
        markup=False,
    )
    if settings.page:
        console().print(f"For a browser: {url}", markup=False)
    console().print(f"Listening on {url}/v1", markup=False)


def _log_requests() -> None:
    """One line a request on standard error."""
    logger = logging.getLogger("entropix_edge.requests")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
