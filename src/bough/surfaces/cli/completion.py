"""The verb completion: a script for the shell."""

import click
from click.shell_completion import get_completion_class


@click.command(
    epilog="\b\nExamples:\n"
    '  eval "$(bough completion bash)"            now, or in ~/.bashrc\n'
    "  bough completion zsh > ~/.zfunc/_bough\n"
    "  bough completion fish > ~/.config/fish/completions/bough.fish"
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script that completes verbs, options and ids."""
    found = get_completion_class(shell)
    if found is None:
        raise click.ClickException(f"there is no completion for {shell}")
    root = click.get_current_context().find_root().command
    click.echo(found(root, {}, "bough", "_BOUGH_COMPLETE").source())
