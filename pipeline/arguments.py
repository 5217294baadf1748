"""Parse command-line values: settings and windows of spans."""


def parse_settings(assignments: list[str], option: str = "--set") -> dict[str, str]:
    """Return settings by name, parsed from texts of the form NAME=VALUE.

    Raises:
        ValueError: for a text without an equals sign; the message names the option.
    """
    for assignment in assignments:
        if "=" not in assignment:
            raise ValueError(f"{option} takes NAME=VALUE, not '{assignment}'.")
    return dict(assignment.split("=", 1) for assignment in assignments)


def parse_window(text: str) -> tuple[int, int]:
    """Return the first and last span of a text FIRST:LAST; -1 for a bound that is left out.

    Raises:
        ValueError: if the text has no colon or a bound is not a whole number.
    """
    first, colon, last = text.partition(":")
    if not colon or not all(part == "" or part.isdigit() for part in (first, last)):
        raise ValueError(f"--spans takes FIRST:LAST with whole numbers, such as 0:59, not '{text}'.")
    return int(first or -1), int(last or -1)
