"""What a run writes down while it trains: metrics.jsonl, TensorBoard, sample grids, the console."""
