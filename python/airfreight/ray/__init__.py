"""What hook, operators, triggers and decorators for Ray share."""
