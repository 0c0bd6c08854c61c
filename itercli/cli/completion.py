"""Print a script that completes `iter` in your shell: commands, options, recipes, keys, runs.

  bash: source <(iter completion bash)        in ~/.bashrc
  zsh:  source <(iter completion zsh)         in ~/.zshrc, after compinit
  fish: iter completion fish | source         in ~/.config/fish/config.fish

Keys of a recipe (loop.sample.n=) are completed once `recipe=NAME` stands before them. The
first time that takes a second, as the recipe is composed; then they come from a cache.
"""

from __future__ import annotations

import argparse

BASH = r"""
_iter() {
    local line=${COMP_LINE:0:COMP_POINT} words cur breaks tail
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    cur=${words[-1]}
    mapfile -t COMPREPLY < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null | cut -f1)
    # Bash replaces only what follows the last = or : where those divide words.
    breaks=${COMP_WORDBREAKS//[^=:]/} tail=$cur
    [[ -n $breaks ]] && tail=${cur##*[$breaks]}
    COMPREPLY=("${COMPREPLY[@]#"${cur%"$tail"}"}")
    [[ ${#COMPREPLY[@]} -gt 0 && ${COMPREPLY[0]} == *[=.] ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -o bashdefault -o default -F _iter iter
"""
ZSH = r"""
#compdef iter
_iter() {
    local line
    local -a open done
    for line in "${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)}"; do
        line=${line%%$'\t'*}
        case $line in
            '') ;;
            *[=.]) open+=("$line") ;;
            *) done+=("$line") ;;
        esac
    done
    if (( ! $#open && ! $#done )); then
        _files
        return
    fi
    compadd -S '' -- $open
    compadd -- $done
}
if [[ $funcstack[1] == _iter ]]; then
    _iter "$@"
else
    compdef _iter iter
fi
"""
FISH = r"""
function __iter_complete
    set -l words (commandline -opc) (commandline -ct)
    $words[1] __complete $words[2..-1] 2>/dev/null
end
complete -c iter -a '(__iter_complete)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("shell", choices=tuple(SCRIPTS), help="your shell")


def run(args: argparse.Namespace) -> int:
    """Run the command."""
    print(SCRIPTS[args.shell].strip())
    return 0
