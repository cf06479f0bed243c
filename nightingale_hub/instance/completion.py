"""`nightingale complete`: a script for bash or zsh that completes commands and options.

Made of the parser itself, so it knows what the program knows.
"""

import argparse

HEAD = {"bash": "", "zsh": "autoload -U +X bashcompinit && bashcompinit\n"}
SCRIPT = """\
_nightingale() {{
    local words current=${{COMP_WORDS[COMP_CWORD]}}
    case "$COMP_CWORD:${{COMP_WORDS[1]}}" in
        1:*) words="{commands}" ;;
{cases}
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _nightingale nightingale
"""


def format_completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script for *shell*, `bash` or `zsh`."""
    found = list_words(parser)
    cases = "\n".join(
        f'        *:{name}) words="{" ".join(words)}" ;;' for name, words in found.items()
    )
    return HEAD[shell] + SCRIPT.format(commands=" ".join(found), cases=cases)


def list_words(parser: argparse.ArgumentParser) -> dict[str, list[str]]:
    """Return each command with its options, its actions and the choices of its arguments."""
    found: dict[str, list[str]] = {}
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        for name, command in action.choices.items():
            words: list[str] = []
            for each in command._actions:
                words += each.option_strings
                words += [str(choice) for choice in each.choices or ()]
            found[name] = words
    return found
