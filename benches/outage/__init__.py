"""An outage drill: what callers see of an origin that gets slow, fails, hangs and comes back. `make outage`."""
