"""Text of other processes, for a terminal."""


def printable(text: str) -> str:
    """The text without anything that moves a cursor or changes a colour."""
    return "".join(character if character.isprintable() else "�" for character in text)
