"""Real answers of an earlier version, recorded, and asked for again: what users see must stay the same."""
