"""What a call to Redis costs, beside other clients and a floor, and what a frozen one costs. `make bench-redis`."""
