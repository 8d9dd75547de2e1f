#!/usr/bin/env bash
# Makes docs/terminal.svg: trains on a text in a real terminal (tmux), captures it on the way, and draws what was
# captured. Needs tmux and python3.
#
#   docs/make_terminal_picture.sh TEXT [SECONDS_UNTIL_CAPTURE] [OPTIONS OF penwright train]
set -euo pipefail
text=$(realpath "${1:?give a text}")
seconds=${2:-75}
shift $(($# < 2 ? $# : 2))
options=${*:-"--budget 2m"}
docs=$(cd "$(dirname "$0")" && pwd)

cargo build --release -p penwright-cli --manifest-path "$docs/../Cargo.toml"
target=$(cargo metadata --no-deps --format-version 1 --manifest-path "$docs/../Cargo.toml" |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')

dir=$(mktemp -d)
socket=picture$$
trap 'tmux -L $socket kill-server 2>/dev/null || true; rm -rf "$dir"' EXIT
cp "$text" "$dir/$(basename "$text")"
tmux -L $socket -f /dev/null new-session -d -x 100 -y 34 -s picture -c "$dir" \
  "PATH=$target/release:\$PATH PS1='$ ' NO_COLOR= bash --norc --noprofile"
sleep 1
tmux -L $socket send-keys -t picture "clear; penwright train $(basename "$text") $options --out runs/$(basename "${text%.*}")" Enter
sleep "$seconds"
tmux -L $socket capture-pane -t picture -p -e >"$dir/screen.txt"
tmux -L $socket send-keys -t picture C-c
sleep 2
python3 "$docs/ansi_to_svg.py" 100 <"$dir/screen.txt" >"$docs/terminal.svg"
echo "$docs/terminal.svg"
