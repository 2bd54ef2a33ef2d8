"""The least that a stdio server of this SDK can be: what the SDK itself costs, to measure ours against."""

from mcp.server import MCPServer

server = MCPServer("minimal", log_level="WARNING")


@server.tool()
def echo(text: str) -> str:
    """Give the text back."""
    return text


if __name__ == "__main__":
    server.run("stdio")
