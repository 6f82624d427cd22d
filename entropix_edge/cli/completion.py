"""`entropix-edge completion`: what a shell needs to complete our commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from .options import verbose_option


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@verbose_option
def command(shell: str) -> None:
    r"""Print the completion script of SHELL, for its start-up file.

    \b
    bash: eval "$(entropix-edge completion bash)"    in ~/.bashrc
    zsh:  autoload -Uz compinit && compinit          in ~/.zshrc, where compinit is not called yet
          eval "$(entropix-edge completion zsh)"     after it
    fish: entropix-edge completion fish | source     in ~/.config/fish/config.fish
    """
    from . import COMPLETION, NAME, cli

    kind = get_completion_class(shell)
    assert kind is not None
    print(kind(cli, {}, NAME, COMPLETION).source())
