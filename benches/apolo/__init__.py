"""What waiting for jobs on Apolo costs a triggerer."""
