"""Export: writes a run's model in a format to ship, if it passes the parity gate."""
