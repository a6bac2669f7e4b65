"""The playground: a question of one's own, and two blind answers that are written side by side."""
