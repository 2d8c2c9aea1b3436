"""The error that a user can act on."""


class UserError(Exception):
    """Something the user can mend: one sentence saying what, where, and what to do.

    Steps print it without a traceback and exit with status 1; anything else that
    escapes a step is a defect of ours and keeps its traceback.
    """


class ConfigError(UserError, ValueError):
    """A configuration that cannot work, named by its key."""


def require(condition: bool, key: str, message: str) -> None:
    """Raise a :class:`ConfigError` about ``key`` unless the condition holds."""
    if not condition:
        raise ConfigError(f"{key}: {message}")
