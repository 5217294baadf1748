"""How the words of a command line are read: settings and windows of spans."""


def parse_settings(words: list[str], option: str = "--set") -> dict[str, str]:
    """Settings by name from words such as NAME=VALUE, given by an option.

    Raises:
        ValueError: for a word without an equals sign.
    """
    for word in words:
        if "=" not in word:
            raise ValueError(f"{option} takes NAME=VALUE, not '{word}'.")
    return dict(word.split("=", 1) for word in words)


def parse_window(text: str) -> tuple[int, int]:
    """First and last span of FIRST:LAST; -1 for one that was left out.

    Raises:
        ValueError: for anything else.
    """
    first, colon, last = text.partition(":")
    if not colon or not all(part == "" or part.isdigit() for part in (first, last)):
        raise ValueError(f"--spans takes FIRST:LAST with whole numbers, such as 0:59, not '{text}'.")
    return int(first or -1), int(last or -1)
