"""History in an engine that takes Prometheus remote write and answers PromQL; only for clusters."""
