"""Export: from a Run to what is shipped, through the parity gate."""
