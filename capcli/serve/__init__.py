"""The page and the HTTP API of `capcli serve`, on Starlette."""
