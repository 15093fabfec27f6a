"""The entry point: finds the verb, and turns every error into one line and an exit code.

Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 not allowed, 5 conflict, 6 budget, 7 needs a
person, 8 still running, 69 server unavailable, 78 configuration, 130 interrupted.
"""

import importlib
import json
import os
import sys

import click

from bough import __version__

_VERBS = {
    "run": ("start", "Start agents"),
    "spawn": ("start", "Start agents"),
    "runner": ("start", "Start agents"),
    "ps": ("look", "Look"),
    "tree": ("look", "Look"),
    "show": ("look", "Look"),
    "logs": ("follow", "Look"),
    "budget": ("budget", "Look"),
    "stats": ("budget", "Look"),
    "files": ("files", "Look"),
    "wait": ("follow", "Steer"),
    "kill": ("steer", "Steer"),
    "pause": ("steer", "Steer"),
    "resume": ("steer", "Steer"),
    "send": ("mail", "Talk"),
    "reply": ("mail", "Talk"),
    "inbox": ("mail", "Talk"),
    "ack": ("mail", "Talk"),
    "approvals": ("mail", "Talk"),
    "approve": ("mail", "Talk"),
    "reject": ("mail", "Talk"),
    "report": ("agent", "Inside an agent"),
    "charge": ("agent", "Inside an agent"),
    "request-approval": ("agent", "Inside an agent"),
    "park": ("agent", "Inside an agent"),
    "finish": ("agent", "Inside an agent"),
    "diff": ("work", "Review"),
    "merge": ("merge", "Review"),
    "gc": ("gc", "Review"),
    "role": ("role", "Set up"),
    "db": ("db", "Set up"),
    "mcp": ("mcp", "Set up"),
    "doctor": ("doctor", "Set up"),
    "serve": ("serve", "Set up"),
    "completion": ("completion", "Set up"),
}

_EXAMPLES = """
\b
Examples:
  bough run "tidy the code" -- ruff format .       run a program in a worktree of its own
  bough ps                                         what is running, most urgent first
  bough diff a7f2 && bough merge a7f2              review, then merge

An id may be shortened to its first digits. Every verb takes --json.
"""


class Verbs(click.Group):
    """A group that imports a verb's module only when the verb is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of help."""
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one verb."""
        if cmd_name not in _VERBS:
            return None
        module = importlib.import_module(f"bough.surfaces.cli.{_VERBS[cmd_name][0]}")
        return getattr(module, cmd_name.replace("-", "_"))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, or say which one was probably meant."""
        if args and args[0] not in _VERBS:
            from difflib import get_close_matches

            near = get_close_matches(args[0], _VERBS, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise click.UsageError(f"there is no verb '{args[0]}'{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs by what they are for."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, (_, section) in _VERBS.items():
            command = self.get_command(ctx, name)
            if command:
                sections.setdefault(section, []).append((name, command.get_short_help_str(70)))
        for section, rows in sections.items():
            with formatter.section(section):
                formatter.write_dl(rows)


@click.group(cls=Verbs, epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bough")
@click.option(
    "--database",
    metavar="URL",
    help="PostgreSQL to use instead of the embedded one (or set BOUGH_DATABASE_URL).",
)
@click.pass_context
def bough(ctx: click.Context, database: str | None) -> None:
    """Run trees of autonomous coding agents on a git repository."""
    ctx.obj = database
    ctx.color = _colour()


def _colour() -> bool | None:
    unwanted = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return False if unwanted else None


def _say(message: str, code: str, exit_code: int) -> int:
    ours = sys.argv[: sys.argv.index("--")] if "--" in sys.argv else sys.argv
    if "--json" in ours:
        click.echo(json.dumps({"error": {"code": code, "message": message}}), err=True)
    else:
        click.echo(f"{click.style('bough:', fg='red')} {message}", err=True, color=_colour())
    return exit_code


def _explain(error: Exception) -> int:
    """Say what went wrong in one line; the exit code for it."""
    from bough.client.errors import BoughError

    if isinstance(error, BoughError):
        return _say(str(error), error.code, error.exit_code)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return 2
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "bough"
        return _say(f"{error.format_message()} (see {path} --help)", "usage", 2)
    if isinstance(error, click.ClickException):
        return _say(error.format_message(), "usage", 2)
    from bough.runner.workspaces import git, merge

    if isinstance(error, git.NoRepositoryHere | git.NoCommit):
        return _say(str(error), "no_repository", 3)
    if isinstance(error, merge.GateFailed):
        return _say(str(error), "gate_failed", 1)
    if isinstance(error, git.GitError):
        return _say(str(error), "conflict" if isinstance(error, merge.MergeConflict) else "git", 5)
    if isinstance(error, OSError) and error.filename:
        return _say(f"{error.filename}: {error.strerror}; mend that and try again", "system", 1)
    raise error


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        code = bough.main(prog_name="bough", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        code = 130
    except BrokenPipeError:
        # Whoever read our output has had enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:  # noqa: BLE001 - what is unknown is raised again
        code = _explain(error)
    sys.exit(code if isinstance(code, int) else 0)
