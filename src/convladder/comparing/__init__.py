"""From runs to a table: trials, where they are carried out, what they cost, and which rung to take."""
