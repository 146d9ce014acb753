"""Windows of long recordings, score curves, and events with times. Needs numpy only."""
