"""What values cost between two tasks: through Airfreight, through the other stores, and at the machine's limits."""
