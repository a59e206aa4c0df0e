"""``vitrine classify``."""

from vitrine.cli.verbs.tune import classify as classify
