"""Training checkpoints: sealed, resumed, sent to the Hub."""
