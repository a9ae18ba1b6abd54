"""What others wrote, for a terminal."""


def printable(text: str) -> str:
    """Without anything that moves a cursor or changes a colour."""
    return "".join(character if character.isprintable() else "�" for character in text)
