"""Line breaks of one kind, so that texts which read the same are the same."""


def with_newlines(text: str) -> str:
    """The text with a newline for every line break: a browser sends CR LF for each, and for a lone CR as well."""
    return text.replace("\r\n", "\n").replace("\r", "\n")
