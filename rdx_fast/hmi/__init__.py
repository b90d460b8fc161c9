"""The operator's page: a process of its own beside the station. See ``app`` and ``access``."""
