"""One module a figure: `async def measure(bench: Bench) -> Figure`, named by its number."""
