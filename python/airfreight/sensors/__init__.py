"""Tasks that wait for work which others have started."""
