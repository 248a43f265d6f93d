"""What tests of budgets report about what they saw; `pytest -rP` shows it."""


def say(what: str) -> None:
    """One line for whoever reads the report."""
    print(what)  # noqa: T201  this is what it is for
