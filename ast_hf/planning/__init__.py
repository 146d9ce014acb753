"""What a run will be, before it is: choices from the data, and estimates of time and memory. Needs `train`."""
