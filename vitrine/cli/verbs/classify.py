"""``vitrine classify``."""

import typer

from vitrine.cli.verbs.tune import classify

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
app.command()(classify)
