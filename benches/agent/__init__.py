"""Values between hosts, by agents; see ``__main__``."""
