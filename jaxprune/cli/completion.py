"""Shell scripts that complete commands, flags and values."""

import argparse
from collections.abc import Iterator, Mapping

from jaxprune import config
from jaxprune.cli.settings import choices
from jaxprune.components import EXPORT_FORMATS

_BASH = """_jaxprune() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} words=
  if [[ $COMP_CWORD -gt 2 && $command == datasets && ${COMP_WORDS[2]} =~ ^(show|prepare)$ ]]; then
    command="datasets ${COMP_WORDS[2]}"
  fi
  case $prev in
%(values)s
  esac
  if [[ -z $words ]]; then
    if [[ $COMP_CWORD -eq 1 ]]; then
      words="%(commands)s"
    elif [[ $cur == -* ]]; then
      case $command in
%(flags)s
      esac
    else
      case $command in
%(names)s
      esac
    fi
  fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
  [[ ${#COMPREPLY[@]} -gt 0 || $cur == -* ]] || COMPREPLY=($(compgen -f -- "$cur"))
}
complete -o filenames -F _jaxprune jaxprune
"""
_ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """Write the completion script of a shell.

    Args:
      shell: "bash", "zsh" or "fish".
      parser: Of all commands.

    Returns:
      The script, to be read by the shell.
    """
    commands = dict(_commands(parser))
    if shell == "fish":
        return _fish(commands)
    return _ZSH + _bash(commands) if shell == "zsh" else _bash(commands)


def flags_of(parser: argparse.ArgumentParser) -> list[str]:
    """The long flags of a parser, with their dashes."""
    return [text for action in parser._actions for text in action.option_strings if text.startswith("--")]


def _commands(parser: argparse.ArgumentParser, before: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command, such as "run" and "datasets show", with its parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield f"{before}{name}", inner
                yield from _commands(inner, f"{before}{name} ")


def _values(commands: Mapping[str, argparse.ArgumentParser]) -> dict[str, tuple[str, ...]]:
    """Flag -> the words that may follow it."""
    paths = config.paths()
    words_of: dict[str, tuple[str, ...]] = {
        "--progress": ("auto", "bars", "lines", "none"),
        "--format": tuple(EXPORT_FORMATS),
    }
    for parser in commands.values():
        for flag in flags_of(parser):
            if flag[2:] in paths and choices(flag[2:]):
                words_of[flag] = tuple(choices(flag[2:]))
    return words_of


def _names(command: str, parser: argparse.ArgumentParser) -> list[str]:
    """The words that may stand after a command beside flags and files."""
    shells = [action.choices for action in parser._actions if action.dest == "shell" and action.choices]
    inner = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    takes_config = command == "configs" or any(action.dest == "config" for action in parser._actions)
    return [*(word for words in (*shells, *inner) for word in words), *(config.shipped() if takes_config else ())]


def _bash(commands: Mapping[str, argparse.ArgumentParser]) -> str:
    top = [name for name in commands if " " not in name]
    flags = [f'        "{name}") words="{" ".join(flags_of(parser))}" ;;' for name, parser in commands.items()]
    names = [
        f'        "{name}") words="{" ".join(top if name == "help" else _names(name, parser))}" ;;'
        for name, parser in commands.items()
    ]
    values = [f'    {flag}) words="{" ".join(words)}" ;;' for flag, words in _values(commands).items()]
    return _BASH % {
        "commands": " ".join(top),
        "flags": "\n".join(flags),
        "names": "\n".join(names),
        "values": "\n".join(values),
    }


def _fish(commands: Mapping[str, argparse.ArgumentParser]) -> str:
    values, lines = _values(commands), []
    for name, parser in commands.items():
        outer, _, inner = name.rpartition(" ")
        place = f"__fish_seen_subcommand_from {outer}" if outer else "__fish_use_subcommand"
        about = (parser.description or "").rstrip(".").replace("'", "\\'")
        lines.append(f"complete -c jaxprune -f -n '{place}' -a {inner} -d '{about}'")
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in name.split())
        if words := _names(name, parser):
            lines.append(f"complete -c jaxprune -n '{seen}' -a '{' '.join(words)}'")
        for action in parser._actions:
            for flag in action.option_strings:
                if flag.startswith("--"):
                    what = (action.help or "").replace("%%", "%").replace("\\", "").replace("'", "\\'")
                    argument = " -r" if action.nargs != 0 else ""
                    argument = f" -x -a '{' '.join(values[flag])}'" if flag in values else argument
                    lines.append(f"complete -c jaxprune -n '{seen}' -l {flag[2:]}{argument} -d '{what}'")
    return "\n".join(lines) + "\n"
