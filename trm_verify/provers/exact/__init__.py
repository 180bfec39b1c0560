"""Complete decisions about small piecewise-linear models, in exact arithmetic."""
